"""Reading final answers from text and saying which are the same, before any vote. Pure functions: no I/O, no solver."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from tts._canonical import canonical

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"(?:(?!\\\)|\\\])[^$\n]){0,200}")
_HASHES = re.compile(r"^####[ \t]*([-+]?[ \t]?\$?[ \t]?[-+]?[0-9.][0-9.,/]*)[ \t%]*$", re.MULTILINE)
_STATED = re.compile(r"(?i)\banswer(?:\s{1,5}(?:is|would be|=)\b|\s{0,5}:|\*\*)[\s:*]{0,20}")
_MATHS = re.compile(
    r"\$\$([^$]{1,400})\$\$|\$([^$\n]{1,400})\$(?![0-9])|\\\((.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]", re.DOTALL
)
_SENTENCE = re.compile(r"(?:(?!\*\*)(?![.!?](?:\s|$))[^\n]){1,200}")
_TELLING = re.compile(r"[0-9$\\]|(?<!\w)\(?[A-Z]\)?(?!\w)|^\W*\w+\W*$")
MAX_CLAIMS = 8
"""How many statements of an answer are looked at, from the end."""

_NUMBER = re.compile(r"(?<![\w.])-?(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)(?:/[0-9]+)?")


def split_thinking(text: str, open: str = "<think>", close: str = "</think>", inside: bool = False) -> tuple[str, str]:
    """Part a model's text into what it thought and what it says.

    A close without an open before it means that the prompt opened the thinking: all before it was thought. Thinking
    that is never closed leaves nothing said, so that no answer is read from it.

    Args:
        text: What was generated, after the prompt.
        open: The text that opens thinking.
        close: The text that closes it.
        inside: Whether the prompt ended inside thinking.

    Returns:
        The thinking and the visible text, without the marks.
    """
    thinking: list[str] = []
    visible: list[str] = []
    for piece in re.split(f"({re.escape(open)}|{re.escape(close)})", text):
        if piece == open:
            inside = True
        elif piece == close:
            if not inside:
                thinking += visible
                visible.clear()
            inside = False
        else:
            (thinking if inside else visible).append(piece)
    if inside:
        thinking, visible = [*visible, *thinking], []
    return "".join(thinking), "".join(visible)


@dataclass(frozen=True, slots=True)
class ExactReader:
    """The whole text is the answer, and only the same text, but for space around it, is the same answer."""

    def extract(self, text: str) -> str | None:
        """Return the text without space around it, or None if nothing is left."""
        return text.strip() or None

    def key(self, answer: str) -> str | None:
        """Return the answer without space around it, or None if nothing is left."""
        return answer.strip() or None


@dataclass(frozen=True, slots=True)
class MathAnswerReader:
    r"""Reads a mathematical answer, and groups the spellings of one value.

    Extraction follows `extract_answer` of huggingface/search-and-learn (after Minerva), with these departures: escaped
    braces are no braces; a last box that is not closed, or empty, is no answer; the last number of the text counts only
    if asked for, since a text that was cut off has numbers but no answer. Of several boxes the last one counts.

    The key is itself a spelling of the answer, found by rules that rewrite one text, so equality is transitive and
    needs no pairs. It does not approximate, expand or solve. What it decides where graders disagree:

    - Numbers are exact: 0.5, 1/2 and \frac12 are one; 0.333 is not 1/3. `1,234` and `1 234` are one number, but inside
      brackets a comma separates, and a decimal comma is not guessed. `2\frac12` and `2 1/2` are mixed numbers when the
      fraction is proper.
    - Percent signs, degrees, currencies, and a unit after a number are dropped, as Minerva does: 10\% is 10, not 0.1,
      and 5\text{ cm} is 5\text{ m}. Words that scale (million, dozen) stay.
    - `x=5`, `f(x)=5`, `x \in S` and `(x,y)=(1,2)` are their right side. Other equations keep both sides, in order.
    - A bare list (`1, -2`; `1 and -2`) is the set `\{-2,1\}`: order is no part of it, repetition is. `a \pm b` is the
      set of both. Tuples and intervals keep order and kind of bracket; (5) is 5. Labels that differ stay in a set.
    - Sums and products of letters commute, `\frac{x}{2}` is `x/2`, `\frac{1}{\sqrt3}` is `\frac{\sqrt3}{3}`; products
      of sums are not expanded. What cannot be read with certainty (functions, factorials, powers too large) is compared
      as text without spaces, fonts and needless braces.
    - `(A)`, `A.` and `(A) Paris` are the choice A. Words in title case are the words in lower case.
    - An answer without a letter or digit, a placeholder (`answer`, `\ldots`), or one beyond 4000 characters has no key.

    Args:
        last_number: Whether the last number of the text is the answer where no other form is found.
    """

    last_number: bool = False

    def extract(self, text: str) -> str | None:
        """Return the last boxed answer, else the last stated one (`#### 5`, `the answer is 5`), or None.

        The text is to be visible text only: see `split_thinking`.
        """
        boxes = deque(_BOX.finditer(text), maxlen=1)
        if boxes:
            return _boxed(text, boxes[0].end()) or None
        stated = _stated(text)
        if stated is None and self.last_number:
            numbers = deque(_NUMBER.finditer(text), maxlen=1)
            stated = numbers[0][0] if numbers else None
        return stated

    def key(self, answer: str) -> str | None:
        """Return the canonical spelling of `answer`, or None if it says nothing."""
        return canonical(answer)


def _boxed(text: str, start: int) -> str | None:
    """Return what the box whose content starts at `start` holds, or None if it is never closed."""
    if not text.startswith("{", start):
        match = _UNBRACED.match(text, start)
        return match[0].strip() if match else None
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if depth == 0:
            return text[start + 1 : brace.start()].strip()
    return None


def _stated(text: str) -> str | None:
    """Return the last answer stated in words or after four hashes, whichever is later."""
    hashes = deque(_HASHES.finditer(text), maxlen=1)
    least = hashes[0].end() if hashes else 0
    for claim in reversed(deque(_STATED.finditer(text, least), maxlen=MAX_CLAIMS)):
        answer = _claimed(text, claim.end())
        if answer:
            return answer
    return hashes[0][1].strip() if hashes else None


def _claimed(text: str, start: int) -> str | None:
    """Return the formula, number, choice or word that `the answer is` goes on with; not a whole phrase."""
    maths = _MATHS.match(text, start)
    if maths is not None:
        return maths[maths.lastindex or 0].strip()
    sentence = _SENTENCE.match(text, start)
    stated = sentence[0].strip() if sentence else ""
    return stated if _TELLING.search(stated) else None
