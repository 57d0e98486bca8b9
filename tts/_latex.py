"""LaTeX and plain notation of an answer brought to one spelling, then cut into tokens. Text rules only: no meaning."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/", "π": r"\pi ", "θ": r"\theta ", "∞": r"\infty ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∈": r"\in ", "∪": r"\cup ", "±": r"\pm ", "√": r"\sqrt ",
        "∅": r"\emptyset ", "°": " degrees ", "²": "^2", "³": "^3", "½": r"\frac12 ", "€": "", "£": "", "％": "%",
    }
)  # fmt: skip

_RENAMED = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac "),
    **dict.fromkeys(("cdot", "times", "ast"), "*"),
    **dict.fromkeys(("mbox", "textbf", "textit", "textrm", "textnormal", "mathrm", "operatorname"), r"\text "),
    **dict.fromkeys(("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "displaystyle"), ""),
    **dict.fromkeys(("boxed", "fbox", "mathbf", "mathit", "rm", "bf"), ""),
    **dict.fromkeys(("quad", "qquad", "thinspace", "space", "newline"), " "),
    "div": "/",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "leq": r"\le ",
    "geq": r"\ge ",
    "neq": r"\ne ",
    "lt": "<",
    "gt": ">",
    "varnothing": r"\emptyset ",
    "degree": " degrees ",
    "infin": r"\infty ",
    **dict.fromkeys((",", ";", ":", ">", " ", "\n", "\t"), " "),
    **dict.fromkeys(("!", "$", "(", ")", "[", "]"), ""),
    "%": "%",
    "_": "_",
}
_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_NULL_DELIMITER = re.compile(r"\\(?:left|right)\s*\.(?!\d)")
_THIN_GROUP = re.compile(r"(?:,\\!|\{,\}|\\,)\s*(?=\d{3}(?!\d))")

_UNIT = (
    r"(?:square|cubic|sq\.?)?\s*(?:percentage|percent|per cent|pct|degree|deg|radian|rad|unit|dollar|cent|euro|yuan"
    r"|rupee|pound|second|sec|minute|min|hour|hr|day|week|month|year|inch|inche|foot|feet|ft|yard|mile|mph|millimeter|mm"
    r"|centimeter|cm|kilometer|km|meter|metre|gram|kg|kilogram|ounce|oz|ton|liter|litre|gallon|mL|ml|student|people|person|way"
    r"|apple|book|coin|marble|ticket|point)s?"
)
_TRAILING_UNIT = re.compile(
    rf"(?<=[0-9}}\s])(?:{_UNIT})(?:\s*(?:per|/)\s*(?:{_UNIT}|h|s))?\s*(?:\^\s*(?:[0-9]|\{{\s*[0-9]\s*\}}))?\s*\.?$"
)
_TRAILING_TEXT = re.compile(r"\\text\s*\{\s*([^{}0-9]*?)\s*\}\s*(?:\^\s*(?:[0-9]|\{\s*[0-9]\s*\}))?\s*\.?$")
# What a word after a number may not be, to be passed over as a unit: it changes the value.
_NOT_UNITS = re.compile(
    r"(?i)e|i|x|y|n|and|or|(?:hundred|thousand|million|billion|trillion|dozen|half|a\.?m|p\.?m|bc|ad)\b.*"
)

_ATOM = r"([0-9A-Za-z]|\\[A-Za-z]+)"
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|%", " "),
        (r"\\text\s*\{([^{}]*)\}", r" \1 "),
        (r"(?<=[\w)}])\s*\*\*\s*(?=[\w({\\-])", "^"),
        (r"<=|=<", r"\\le "),
        (r">=", r"\\ge "),
        (r"!=", r"\\ne "),
        (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
        (r"(?i)(?<![A-Za-z\\])(?:infinity|inf)(?![A-Za-z])", r"\\infty "),
        (r"(?:\\|(?<![A-Za-z]))sqrt\s*\(([^(){}]*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*([0-9]+|[A-Za-z]|\\[A-Za-z]+)", r"\\sqrt{\1}"),
        (rf"\\frac\s*{_ATOM}", r"\\frac{\1}"),
        (rf"\\frac\s*(\{{[^{{}}]*\}})\s*{_ATOM}(?![0-9])", r"\\frac\1{\2}"),
    )
]
_BRACKET = re.compile(r"[(\[]|\\\{")
_SPACED_THOUSANDS = re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?: \d{3})+(?![\w.,])")
_THOUSANDS = re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?:,\d{3})+(?!,?\d)")
_TOKEN = re.compile(
    r"\\[A-Za-z]+|\\.|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9}(?![\w.]))?|[^\W\d_]+|\S", re.DOTALL
)


def clean(text: str) -> str:
    """Return `text` in one spelling: no fonts, sizes, dollars, percent, degrees or units, and arguments in braces."""
    text = _NULL_DELIMITER.sub("", text.translate(_UNICODE))
    text = _COMMAND.sub(_rename, _THIN_GROUP.sub("", text)).replace("$", "")
    text = without_unit(_trim(text))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _SPACED_THOUSANDS.sub(lambda match: match[0].replace(" ", ""), text)
    if not _BRACKET.search(text):  # inside brackets a comma separates: (1,234) is a pair
        text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    return _trim(text)


def _rename(match: re.Match[str]) -> str:
    return _RENAMED.get(match[1], match[0])


def _trim(text: str) -> str:
    return text.strip().lstrip('*`"=').rstrip('\\*`".,;: \n').strip()


def without_unit(text: str) -> str:
    """Return LaTeX without the unit that follows a number."""
    match = _TRAILING_TEXT.search(text)
    if match is not None and _NOT_UNITS.fullmatch(match[1]):
        return text
    match = match or _TRAILING_UNIT.search(text)
    if match is None or not any(character.isdigit() for character in text[: match.start()]):
        return text
    return text[: match.start()]


def tokenise(text: str) -> list[str]:
    """Cut cleaned text into commands, numbers, runs of letters and single characters."""
    return _TOKEN.findall(text)


def join(tokens: Sequence[str]) -> str:
    """Write tokens as text, with a space only where two would run together, and no needless `*` or braces."""
    kept = _plain(tokens)
    parts = kept[:1]
    for before, token in pairwise(kept):
        parts.append(" " + token if _would_run_together(before, token) else token)
    return "".join(parts).removeprefix("+")


def _plain(tokens: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for token in tokens:
        kept.append(token)
        if token == "}" and len(kept) > 3 and kept[-3] == "{" and kept[-4] in "^_":
            kept[-3:] = [kept[-2]]
    return kept


def _would_run_together(before: str, token: str) -> bool:
    if token[0].isalpha():
        return before[-1].isalpha()
    return before[-1] in "0123456789." and (token[0].isdigit() or token[0] == ".")
