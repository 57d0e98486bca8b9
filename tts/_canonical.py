"""The one spelling of an answer: its lists, tuples, sets, intervals, relations, matrices, and the algebra in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tts._algebra import simplify
from tts._latex import clean, join, tokenise

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MAX_LENGTH = 4000
"""Characters; longer text is no answer that can be compared."""
MAX_DEPTH = 16
MAX_ROUNDS = 4

_OPENING = frozenset(("(", "[", "{", r"\{", r"\begin"))
_CLOSING = frozenset((")", "]", "}", r"\}", r"\end"))
_SEPARATORS = frozenset((",", ";", "and", "or"))
_RELATIONS = frozenset(("=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\approx"))
_CHOICE = re.compile(r"\(?([A-Z])[).:]*|\(([A-J])\)\s+[A-Za-z0-9].*", re.DOTALL)
_LABEL = re.compile(r"(?:[A-Za-z]{1,2}|\\[a-z]+)(?:_\{?\w+\}?)?(?:\([a-z]\))?|\([A-Za-z](?:,[A-Za-z])*\)")
_TITLE_WORD = re.compile(r"[A-Z][a-z]{2,}|No")
_MATRICES = frozenset(("pmatrix", "bmatrix"))
_PLACEHOLDERS = frozenset(
    ("answer", "the answer", "your answer", "final answer", "the final answer", r"\ldots", r"\dots")
)


def canonical(text: str) -> str | None:
    """Return what all spellings of the answer `text` share, or None if it says nothing.

    The result is a spelling of the answer itself, and its own canonical form: rules are applied until nothing changes,
    and text that does not settle is left as it is.
    """
    given = " ".join(text.split())
    if len(given) > MAX_LENGTH:
        return None
    spelling = given
    for _ in range(MAX_ROUNDS):
        after = _once(spelling)
        if after is None or after == spelling:
            return after
        if len(after) > MAX_LENGTH:
            break
        spelling = after
    return given


def _once(text: str) -> str | None:
    text = clean(text)
    choice = _CHOICE.fullmatch(text)
    if choice is not None:
        return choice[1] or choice[2]
    result = _structure(tokenise(text), 0)
    if result == r"\emptyset":
        return result
    meaningful = any(character.isalnum() for character in result) and result.lower() not in _PLACEHOLDERS
    return result if meaningful else None


def _structure(tokens: Sequence[str], depth: int) -> str:
    """Write tokens by their outermost structure."""
    if depth > MAX_DEPTH or not _balanced(tokens):
        return join(tokens)
    items = _split(tokens, _SEPARATORS)
    if len(items) > 1:
        return _set(items, depth)
    tokens = _unlabelled(items[0]) if items else []
    if _enclosed(tokens):
        return _bracketed(tokens, depth)
    if tokens.count(r"\pm") == 1:
        return _set([tokens], depth)
    return _relation(tokens, depth)


def _balanced(tokens: Sequence[str]) -> bool:
    depth = 0
    for token in tokens:
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth < 0:
            return False
    return depth == 0


def _cut(tokens: Sequence[str], separators: Collection[str]) -> tuple[list[list[str]], list[str]]:
    """Cut at separators outside all brackets; return the parts and the separators between them."""
    parts: list[list[str]] = [[]]
    found = []
    depth = 0
    for token in tokens:
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth == 0 and token in separators:
            parts.append([])
            found.append(token)
        else:
            parts[-1].append(token)
    return parts, found


def _split(tokens: Sequence[str], separators: Collection[str]) -> list[list[str]]:
    """Cut at separators, leaving out empty parts."""
    return [part for part in _cut(tokens, separators)[0] if part]


def _label(tokens: Sequence[str]) -> str:
    """Return the name that `x=...`, `f(x)=...`, `(x,y)=...` or `x in ...` gives a value, or nothing."""
    parts, found = _cut(tokens, _RELATIONS)
    if found not in (["="], [r"\in"]) or not parts[1]:
        return ""
    name = join(parts[0])
    return name if _LABEL.fullmatch(name) else ""


def _unlabelled(tokens: list[str]) -> list[str]:
    return _cut(tokens, _RELATIONS)[0][1] if _label(tokens) else tokens


def _set(items: Sequence[list[str]], depth: int) -> str:
    """Write items in sorted order; different labels stay, since a=1,b=2 is not a=2,b=1."""
    labels = {_label(item) for item in items} - {""}
    written = []
    for item in items:
        prefix = f"{_label(item)}=" if len(labels) > 1 and _label(item) else ""
        written += [prefix + _structure(signed, depth + 1) for signed in _signs(_unlabelled(item))]
    return r"\{" + ",".join(sorted(written)) + r"\}"


def _signs(tokens: Sequence[str]) -> list[Sequence[str]]:
    if tokens.count(r"\pm") != 1:
        return [tokens]
    return [[sign if token == r"\pm" else token for token in tokens] for sign in "+-"]


def _enclosed(tokens: Sequence[str]) -> bool:
    """Tell whether the first token opens what the last one closes."""
    if len(tokens) < 2 or tokens[0] not in _OPENING:
        return False
    depth = 0
    for place, token in enumerate(tokens):
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth == 0:
            return place == len(tokens) - 1 or (tokens[0] == r"\begin" and _is_matrix(tokens, place))
    return False


def _is_matrix(tokens: Sequence[str], end: int) -> bool:
    name = list(tokens[1:4])
    return len(name) == 3 and end == len(tokens) - 4 and name[0] == "{" and list(tokens[-3:]) == name


def _bracketed(tokens: Sequence[str], depth: int) -> str:
    opening, inside, closing = tokens[0], tokens[1:-1], tokens[-1]
    if opening == r"\begin":
        return _matrix(tokens, depth)
    items = _split(inside, _SEPARATORS - {"and", "or"})
    if (opening, closing) in ((r"\{", r"\}"), ("{", "}")) and (opening == r"\{" or len(items) > 1):
        return _set(items, depth) if items else r"\emptyset"
    if len(items) < 2 and opening in "({" and closing in ")}":
        return _structure(inside, depth + 1)
    return opening + ",".join(_structure(item, depth + 1) for item in items) + closing


def _matrix(tokens: Sequence[str], depth: int) -> str:
    r"""Write the cells of `\begin{name}...\end{name}`; round and square brackets are the same matrix."""
    name = "pmatrix" if tokens[2] in _MATRICES else tokens[2]
    rows = [_split(row, "&") for row in _split(tokens[4:-4], {r"\\"})]
    body = r"\\".join("&".join(_structure(cell, depth + 1) for cell in row) for row in rows)
    return rf"\begin{{{name}}}{body}\end{{{name}}}"


def _relation(tokens: Sequence[str], depth: int) -> str:
    """Write the sides of `=` or `<`, and of unions in them, each by its own structure."""
    parts, found = _cut(tokens, _RELATIONS)
    if not found or not all(parts):
        return _union(tokens, depth)
    sides = [_structure(part, depth + 1) for part in parts]
    signs = [sign + " " if len(sign) > 1 else sign for sign in found]
    return sides[0] + "".join(sign + side for sign, side in zip(signs, sides[1:], strict=True))


def _union(tokens: Sequence[str], depth: int) -> str:
    parts = _split(tokens, {r"\cup"})
    if len(parts) < 2:
        return _expression(tokens)
    return r"\cup ".join(sorted(_structure(part, depth + 1) for part in parts))


def _expression(tokens: Sequence[str]) -> str:
    if all(map(str.isalpha, tokens)) and any(len(token) > 2 or token == "No" for token in tokens):
        return " ".join(token.lower() if _TITLE_WORD.fullmatch(token) else token for token in tokens)
    return simplify(tokens) or join(tokens)
