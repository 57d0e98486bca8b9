r"""Arithmetic in words: somebody has a quantity, two to five steps change it, and the last value is asked for.

A solution is text in parts, one part per step and one for the answer:

    12 * 9 = 108\n\n
    87 + 108 = 195\n\n
    The answer is \boxed{195}

Every part can be judged exactly: it is good when it is the next computation of some valid route. Routes differ in the
order of independent steps, and in the way that `b friends with c and d each` are counted. Every value is an integer of
1 to 999. Problems are split by their templates, so that no held-out problem has a sequence of sentence forms that
training sees.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from random import Random

from tts.answers import MathAnswerReader
from tts.benchmarks.tasks.countdown import STEP_END, answer_of, answer_text
from tts.benchmarks.tasks.words_routes import (
    PROGRAMS,
    Event,
    Plan,
    Route,
    Step,
    draw_order,
    orders,
    plans,
    start,
)
from tts.benchmarks.tasks.words_templates import BY_BLANKED, FORMS, ITEMS, NAMES, Form, blank, vocabulary, words_of

__all__ = [
    "STEP_COUNTS", "Instance", "Sentence", "answer", "answer_of", "check_answer", "draw_problem", "draw_route",
    "held_out", "held_out_instances", "is_held_out", "label_steps", "parse_question", "question", "route_text",
    "routes", "step_count", "training_instances", "vocabulary",
]  # fmt: skip

STEP_COUNTS = (2, 3, 4, 5)
LONGEST_QUESTION = 75
LARGEST_QUANTITY = 300
"""Of what is drawn; a step may make more and still be judged."""
HELD_OUT_MODULUS = 8
_IDLE_CHANCE = 0.4
_KINDS = ("gain", "loss", "times", "share", "boxes", "bags", "bring", "take")
_LENGTHS = {kind: len(PROGRAMS[kind][0].split()) for kind in PROGRAMS}
_READER = MathAnswerReader()
_SENTENCE_END = re.compile(r"(?<=[.?]) ")
_NUMBER = re.compile(r"[0-9]+")
_STEP = re.compile(r"([0-9]{1,6}) ([-+*/]) ([0-9]{1,6}) = ([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: its form and its numbers, in the order of the text."""

    form: Form
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Instance:
    """One problem.

    Attributes:
        sentences: The opening, the events, and the question.
        names: Who they are about; each sentence that introduces a name takes the next one.
        items: What is counted, and where a sentence names another item, that one.
    """

    sentences: tuple[Sentence, ...]
    names: tuple[str, ...]
    items: tuple[str, ...]

    @property
    def template(self) -> str:
        """The sequence of sentence forms: the whole text but for its names, items and numbers."""
        return " ".join(sentence.form.key for sentence in self.sentences)

    @property
    def opening(self) -> int:
        """The quantity at the start."""
        return self.sentences[0].numbers[0]

    @property
    def events(self) -> tuple[Event, ...]:
        """What happens between the opening and the question."""
        return tuple(Event(sentence.form.kind, sentence.numbers) for sentence in self.sentences[1:-1])


# Instances and their split


def draw_problem(rng: Random) -> Instance:
    """Draw a problem: the number of steps uniformly from 2 to 5 first."""
    steps = rng.choice(STEP_COUNTS)
    while True:
        instance = _attempt(steps, rng)
        if instance is not None:
            return instance


def _attempt(steps: int, rng: Random) -> Instance | None:
    """Draw a problem of so many steps, or None where the numbers or the text come out too large."""
    quantity = rng.randint(4, rng.choice((20, 60, 150)))
    forms = [rng.choice(FORMS[kind]) for kind in ("start", *_draw_kinds(steps, rng), "ask")]
    if sum(form.tokens for form in forms) > LONGEST_QUESTION:
        return None
    sentences = [Sentence(forms[0], (quantity,))]
    for form in forms[1:-1]:
        drawn = _draw_event(form.kind, quantity, rng)
        if drawn is None:
            return None
        numbers, quantity = drawn
        sentences.append(Sentence(form, numbers))
    names = rng.sample(tuple(NAMES), 1 + sum(form.new_name for form in forms))
    items = rng.sample(ITEMS, 1 + sum(form.new_item for form in forms))
    return Instance((*sentences, Sentence(forms[-1])), tuple(names), tuple(items))


def _draw_kinds(steps: int, rng: Random) -> list[str]:
    kinds: list[str] = []
    while steps:
        kinds.append(rng.choice([kind for kind in _KINDS if _LENGTHS[kind] <= steps]))
        steps -= _LENGTHS[kinds[-1]]
    if rng.random() < _IDLE_CHANCE:
        kinds.insert(rng.randint(0, len(kinds)), "idle")
    return kinds


def _draw_event(kind: str, quantity: int, rng: Random) -> tuple[tuple[int, ...], int] | None:
    """Draw the numbers of an event; return them with the quantity after it, or None where none fit."""
    if kind == "idle":
        return (rng.randint(3, 60),), quantity
    if kind == "share":
        divisors = [number for number in range(2, 13) if quantity % number == 0 and quantity > number]
        divisor = rng.choice(divisors) if divisors else 0
        return ((divisor,), quantity // divisor) if divisor else None
    if kind == "times":
        most = min(12, LARGEST_QUANTITY // quantity)
        factor = rng.randint(2, most) if most >= 2 else 0
        return ((factor,), quantity * factor) if factor else None
    return _draw_change(kind, quantity, rng)


def _draw_change(kind: str, quantity: int, rng: Random) -> tuple[tuple[int, ...], int] | None:
    """Draw the numbers of an event that adds or takes away, as `_draw_event` does."""
    if _LENGTHS[kind] == 1:
        numbers: tuple[int, ...] = (rng.randint(3, 120),)
        change = numbers[0]
    elif _LENGTHS[kind] == 2:
        numbers = (rng.randint(3, 15), rng.randint(3, 15))
        change = numbers[0] * numbers[1]
    else:
        numbers = (rng.randint(3, 10), *rng.sample(range(3, 16), 2))
        change = numbers[0] * (numbers[1] + numbers[2])
    quantity += change if kind in ("gain", "boxes", "bring") else -change
    return (numbers, quantity) if 1 <= quantity <= LARGEST_QUANTITY else None


def is_held_out(instance: Instance) -> bool:
    """Tell whether an instance has one of the templates, one in eight, that no training may see."""
    digest = blake2b(instance.template.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_MODULUS == 0


def training_instances(rng: Random) -> Iterator[Instance]:
    """Yield instances without end, none of them held out."""
    while True:
        instance = draw_problem(rng)
        if not is_held_out(instance):
            yield instance


def held_out_instances(rng: Random) -> Iterator[Instance]:
    """Yield held-out instances without end, each question once."""
    seen: set[str] = set()
    while True:
        instance = draw_problem(rng)
        if is_held_out(instance) and question(instance) not in seen:
            seen.add(question(instance))
            yield instance


def held_out(count: int, seed: int) -> list[Instance]:
    """Return `count` distinct held-out instances, the same for the same seed."""
    return list(islice(held_out_instances(Random(seed)), count))


# Text


def question(instance: Instance) -> str:
    """Return the problem as text."""
    names, things = iter(instance.names), iter(instance.items[1:])
    name = next(names)
    parts: list[str] = []
    for sentence in instance.sentences:
        form = sentence.form
        slots = {"name": name, "items": instance.items[0], **NAMES[name]}
        slots.update(zip("abc", map(str, sentence.numbers), strict=False))
        if form.new_name:
            name = slots["other"] = next(names)
        if form.new_item:
            slots["things"] = next(things)
        parts.append(form.pattern.format_map(slots))
    return " ".join(parts)


def parse_question(text: str) -> Instance:
    """Read an instance back from the text of its question.

    Raises:
        ValueError: if the text is no word problem of 2 to 5 steps with every value an integer of 1 to 999.
    """
    try:
        instance = _parse(text.strip())
        valid = question(instance) == text.strip() and step_count(instance) in STEP_COUNTS and bool(_plans(instance))
    except (ValueError, LookupError, StopIteration):
        valid = False
    if not valid:
        raise ValueError(f"not a word problem: {text!r}")
    return instance


def _parse(text: str) -> Instance:
    """Read an instance from a text; one that does not have the same text where the text is none.

    Raises:
        ValueError: if a number is too long.
        LookupError: if a sentence is of no form, or not where its form may be.
    """
    texts = _SENTENCE_END.split(text)
    forms = [BY_BLANKED[blank(sentence)] for sentence in texts]
    if [form.kind in PROGRAMS for form in forms] != [False, *[True] * (len(forms) - 2), False]:
        raise LookupError(text)
    if (forms[0].kind, forms[-1].kind) != ("start", "ask"):
        raise LookupError(text)
    sentences = [
        Sentence(form, tuple(map(int, _NUMBER.findall(sentence)))) for form, sentence in zip(forms, texts, strict=True)
    ]
    words = dict.fromkeys(words_of(text))
    names, items = (tuple(word for word in words if word in known) for known in (NAMES, ITEMS))
    return Instance(tuple(sentences), names, items)


def route_text(instance: Instance, route: Route) -> tuple[str, ...]:
    """Return a route as the parts of a solution: one per step, and the answer."""
    steps = [f"{step.left} {step.operator} {step.right} = {step.result}{STEP_END}" for step in route]
    return (*steps, answer_text(str(answer(instance))))


# Routes, answers and exact labels


def _plans(instance: Instance) -> tuple[Plan, ...]:
    return plans(instance.opening, instance.events)


def answer(instance: Instance) -> int:
    """Return the right answer."""
    return _plans(instance)[0][-1].step.result


def step_count(instance: Instance) -> int:
    """Return the number of steps of the shortest route."""
    return sum(_LENGTHS[event.kind] for event in instance.events)


def routes(instance: Instance) -> tuple[Route, ...]:
    """Return every valid sequence of steps, each once, those of the shortest way first."""
    return tuple(dict.fromkeys(route for plan in _plans(instance) for route in orders(plan)))


def draw_route(instance: Instance, rng: Random) -> Route:
    """Draw a valid sequence of steps: a way to count uniformly, then an order of its steps."""
    return draw_order(rng.choice(_plans(instance)), rng)


def check_answer(instance: Instance, text: str) -> bool:
    """Tell whether a text is the right answer, in any spelling. Any text at all is safe to check."""
    return _READER.key(text) == str(answer(instance))


def label_steps(instance: Instance, steps: Sequence[str]) -> tuple[bool, ...]:
    """Label each part of a solution as good or not, exactly.

    A step is good when every step before it is, its arithmetic is right, and it is the next computation of some valid
    route. An answer is good when it is right, whatever came before it.
    """
    labels: list[bool] = []
    progress = start(_plans(instance))
    for text in steps:
        stated = answer_of(text)
        if stated is not None:
            labels.append(check_answer(instance, stated))
            continue
        progress = progress.follow(_read_step(text.strip()))
        labels.append(bool(progress.states))
    return tuple(labels)


def _read_step(text: str) -> Step:
    """Return a step as written; one that no route has where the text is no step."""
    match = _STEP.fullmatch(text)
    return Step(int(match[1]), match[2], int(match[3]), int(match[4])) if match else Step(0, "", 0, 0)
