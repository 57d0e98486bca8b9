"""The sentences of word problems: names, items, sentence forms, and the words they are made of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

PRONOUNS: Mapping[str, Mapping[str, str]] = {
    "male": {"He": "He", "he": "he", "him": "him"},
    "female": {"He": "She", "he": "she", "him": "her"},
}
NAMES: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(("Ben", "Max", "Sam", "Tom"), PRONOUNS["male"]),
    **dict.fromkeys(("Anna", "Eva", "Lucy", "Mia"), PRONOUNS["female"]),
}
ITEMS = ("balloons", "balls", "beads", "buttons", "cards", "marbles", "pens", "shells", "stamps", "stickers")

_PATTERNS: Mapping[str, tuple[str, ...]] = {
    "start": (
        "{name} has {a} {items}.",
        "{name} starts with {a} {items}.",
        "{name} owns {a} {items}.",
        "One morning {name} counts {a} {items}.",
    ),
    "gain": (
        "{He} finds {a} more {items}.",
        "Then {he} wins {a} {items}.",
        "{name} gets {a} {items} from a friend.",
        "A neighbor gives {him} {a} {items}.",
    ),
    "loss": (
        "{He} loses {a} {items}.",
        "Then {he} gives {a} {items} away.",
        "{name} sells {a} {items}.",
        "A friend takes {a} {items} from {him}.",
    ),
    "times": (
        "{other} has {a} times as many {items} as {name}.",
        "{other} owns {a} times as many as {name}.",
        "For each of these {items}, {other} has {a}.",
        "{name} has a rival, {other}, with {a} times as many.",
    ),
    "share": (
        "{He} sorts the {items} into {a} equal piles and keeps one.",
        "The {items} are shared equally by {name} and others, {a} people in all.",
        "{name} splits the {items} equally among {a} jars and keeps one jar.",
        "Then {he} keeps only one of every {a} {items}.",
    ),
    "boxes": (
        "{He} buys {a} boxes of {b} {items} each.",
        "Then {he} wins {a} bags with {b} {items} in each.",
        "{name} gets {a} {items} from each of {b} friends.",
        "On each of {a} days {he} finds {b} {items}.",
    ),
    "bags": (
        "{He} fills {a} bags with {b} {items} each and gives them away.",
        "{name} sells {a} boxes of {b} {items} each.",
        "Then {he} gives {a} {items} to each of {b} friends.",
        "On each of {a} days {he} loses {b} {items}.",
    ),
    "bring": (
        "Each of {a} friends gives {him} {b} red and {c} blue {items}.",
        "{He} buys {a} boxes, each with {b} red and {c} blue {items}.",
        "On each of {a} days {he} finds {b} big and {c} small {items}.",
    ),
    "take": (
        "Each of {a} guests takes {b} red and {c} blue {items} from {him}.",
        "{He} sells {a} boxes, each with {b} red and {c} blue {items}.",
        "On each of {a} days {he} loses {b} big and {c} small {items}.",
    ),
    "idle": (
        "{name} is {a} years old.",
        "{He} also has {a} {things}.",
        "The walk home takes {a} minutes.",
        "A shop nearby sells {a} kinds of {things}.",
    ),
    "ask": (
        "How many {items} does {name} have now?",
        "How many {items} does {name} have in the end?",
        "What is the number of {items} that {name} has now?",
        "Count the {items} that {name} has now.",
    ),
}

_TOKEN = re.compile(r"[A-Za-z]+|[0-9]+|[.,;?]")
_SLOT = re.compile(r"\{(\w+)\}")
_NUMBER_SLOTS = ("a", "b", "c")
_BLANKS: Mapping[str, str] = {
    **dict.fromkeys(NAMES, "NAME"),
    **dict.fromkeys(ITEMS, "ITEMS"),
    **{word: "PRONOUN" for pronouns in PRONOUNS.values() for word in pronouns.values()},
}
_SLOT_BLANKS: Mapping[str, str] = {
    "name": "NAME", "other": "NAME", "items": "ITEMS", "things": "ITEMS",
    **dict.fromkeys(PRONOUNS["male"], "PRONOUN"), **dict.fromkeys(_NUMBER_SLOTS, "NUMBER"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a sentence.

    Attributes:
        key: Its name, such as "gain.2".
        kind: What the sentence does to the quantity; "start", "ask", and "idle" for one that does nothing.
        pattern: The text with slots; its numbers a, b, c stand in this order.
        tokens: How many words, numbers, marks, and spaces before numbers its text has.
        new_name: Whether it introduces a name, which the sentences after it are about.
        new_item: Whether it names an item other than the one that is counted.
    """

    key: str
    kind: str
    pattern: str
    tokens: int
    new_name: bool
    new_item: bool


def blank(text: str) -> str:
    """Return a sentence with names, pronouns, items and numbers blanked, its words and marks parted by spaces."""
    return " ".join("NUMBER" if token.isdigit() else _BLANKS.get(token, token) for token in _TOKEN.findall(text))


def words_of(text: str) -> list[str]:
    """Return the words of a text, in order."""
    return [token for token in _TOKEN.findall(text) if token.isalpha()]


def _form(kind: str, index: int, pattern: str) -> Form:
    slots = _SLOT.findall(pattern)
    length = len(_TOKEN.findall(pattern)) + sum(slot in _NUMBER_SLOTS for slot in slots)
    return Form(f"{kind}.{index}", kind, pattern, length, "other" in slots, "things" in slots)


def _blank_pattern(pattern: str) -> str:
    return blank(_SLOT.sub(lambda slot: _SLOT_BLANKS[slot[1]], pattern))


FORMS: Mapping[str, tuple[Form, ...]] = {
    kind: tuple(_form(kind, index, pattern) for index, pattern in enumerate(patterns))
    for kind, patterns in _PATTERNS.items()
}
"""Every form of each kind of sentence."""

BY_BLANKED: Mapping[str, Form] = {_blank_pattern(form.pattern): form for forms in FORMS.values() for form in forms}
"""Every form by its blanked text."""


def vocabulary() -> tuple[str, ...]:
    """Return every word that a question can have, as it is written, sorted; numbers and marks are not words."""
    fixed = {word for forms in FORMS.values() for form in forms for word in words_of(_SLOT.sub(" ", form.pattern))}
    pronouns = {word for words in PRONOUNS.values() for word in words.values()}
    return tuple(sorted(fixed | pronouns | set(NAMES) | set(ITEMS)))
