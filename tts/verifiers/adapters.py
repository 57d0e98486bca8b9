"""What known process reward models expect to read, and where they say what, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING

from tts.errors import ParameterError, ProblemError, UnknownNameError
from tts.types import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROBLEM = "{problem}"
"""What stands for the problem in an adapter's `opening`."""

SPECIAL = re.compile(r"<[^<>\s]+>")
"""How tokens are written that a tokenizer makes of no other text."""
Asked = str | tuple[Message, ...]
"""What a scorer turns into tokens: a text, or a conversation, which its chat template renders."""


class Layout(StrEnum):
    """How a path is laid out for the model, and what becomes tokens at a time."""

    STEPS = "steps"
    """all steps in one answer, each tokenized by itself and appended"""
    TEXT = "text"
    """all steps in one text, tokenized up to the end of each: work that grows with the square of their number"""
    TURNS = "turns"
    """a user's turn a step, each followed by the verdict as the assistant's turn; rendered up to each, as much work"""


class Place(StrEnum):
    """Where a step's score is read."""

    MARK = "mark"
    """at the mark that ends the step"""
    STEP_END = "step end"
    """at the step's last token"""
    VERDICT = "verdict"
    """at the token after which the verdict comes"""


class Chance(StrEnum):
    """How what is read becomes a probability."""

    CLASSES = "classes"
    """softmax over the model's classes"""
    LABELS = "labels"
    """softmax over a language model's logits of some next tokens, the others left aside"""
    SIGMOID = "sigmoid"
    """sigmoid of a single output"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """How one kind of process reward model is read.

    Attributes:
        name: What it is called.
        chance: How what is read becomes a probability.
        layout: How a path is laid out.
        system: The system prompt, in place of the conversation's; "" for none; None leaves the conversation as it is.
        opening: For a model without a chat template: what it reads before the first step, with `PROBLEM` in it; None
            renders the conversation with the scorer's template.
        mark: What ends a step, in place of its trailing whitespace; "" leaves steps as they are, and reads them at
            their last token.
        mark_apart: With `Layout.STEPS`, the mark is tokenized by itself, wherever it stands, so that it cannot become
            one token with what is beside it.
        joint: With `Layout.TEXT` what stands between steps, with `Layout.TURNS` between the problem and the first one.
        verdict: With `Layout.TURNS`, what the assistant is taken to have said of each step before.
        good: The class or label that means a good step, from 0.
        labels: The verdicts, as token ids or texts of one token each, with `Chance.LABELS`.
        head: The head that `TorchScorer` puts on the model; "" leaves it to the model's configuration.
        vllm: How vLLM serves it; "" where it does not.
        source: Where this is written.
        unverified: What only the real checkpoint could prove, and was not tried.

    Raises:
        ParameterError: The parts do not go together.
    """

    name: str
    chance: Chance = Chance.CLASSES
    layout: Layout = Layout.STEPS
    system: str | None = None
    opening: str | None = None
    mark: str = ""
    mark_apart: bool = False
    joint: str = ""
    verdict: str = ""
    good: int = 1
    labels: tuple[int | str, ...] | None = None
    head: str = ""
    vllm: str = ""
    source: str = ""
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.chance is Chance.LABELS) != (self.labels is not None):
            raise ParameterError(f"adapter {self.name}: labels={self.labels}, but its chance is {self.chance.value!r}")
        if (self.layout is Layout.TURNS) != bool(self.verdict):
            raise ParameterError(f"adapter {self.name}: verdict={self.verdict!r} with layout {self.layout.value!r}")
        if self.opening is not None and (self.layout is Layout.TURNS or PROBLEM not in self.opening):
            raise ParameterError(f"adapter {self.name}: opening={self.opening!r} needs {PROBLEM}, and no turns")
        if self.opening is None and self.layout is Layout.TEXT:
            raise ParameterError(f"adapter {self.name}: one text needs an opening, which a chat template is not")
        if self.layout is Layout.STEPS and self.joint:
            raise ParameterError(f"adapter {self.name}: joint={self.joint!r} with layout {self.layout.value!r}")
        if self.mark_apart and not (self.mark and self.layout is Layout.STEPS):
            raise ParameterError(f"adapter {self.name}: mark_apart needs a mark, and layout {Layout.STEPS.value!r}")

    @property
    def place(self) -> Place:
        """Where a step's score is read."""
        if self.layout is Layout.TURNS:
            return Place.VERDICT
        return Place.MARK if self.mark else Place.STEP_END

    @property
    def special(self) -> list[str]:
        """What in the opening is to be one token, such as "<s>"."""
        return SPECIAL.findall(self.opening or "")

    @property
    def identity(self) -> str:
        """Its name; with a digest of its parts, where it is not one of `ADAPTERS`."""
        if ADAPTERS.get(self.name) == self:
            return self.name
        return f"{self.name}#{blake2b(repr(self).encode(), digest_size=4).hexdigest()}"


TOKENIZER = "that its tokenizer gives the tokens that are assumed here"
TEMPLATE = "that its chat template renders the conversation as it was rendered in training"

_ALL = (
    Adapter(
        name="qwen2.5-math-prm",
        system="Please reason step by step, and put your final answer within \\boxed{}.",
        mark="<extra_0>",
        head="two-layer",
        vllm="vllm serve MODEL --runner pooling; VLLMScorer(url, step_tag='<extra_0>')",
        source="The Lessons of Developing Process Reward Models (arXiv 2501.07301); Qwen/Qwen2.5-Math-PRM-7B's card",
        unverified=(TOKENIZER, TEMPLATE, "the names of its head's weights: score.0 and score.2"),
    ),
    Adapter(
        name="skywork-o1-open-prm",
        chance=Chance.SIGMOID,
        system="",
        opening="<|endoftext|>{problem}\n",
        mark="\n",
        mark_apart=True,
        good=0,
        head="value",
        source="github.com/SkyworkAI/skywork-o1-prm-inference, model_utils/io_utils.py and prm_model.py",
        unverified=(
            TOKENIZER,
            "the token that begins a text, here <|endoftext|>",
            "the names of its head's weights: v_head.summary",
            "that its weights come as safetensors",
        ),
    ),
    Adapter(
        name="rlhflow",
        chance=Chance.LABELS,
        layout=Layout.TURNS,
        system="",
        joint=" ",
        verdict="+",
        good=0,
        labels=("+", "-"),
        head="language",
        vllm="vllm serve MODEL",
        source="github.com/RLHFlow/RLHF-Reward-Modeling, math-rm/prm_evaluate.py; search-and-learn's reward_models.py",
        unverified=(TOKENIZER, TEMPLATE, "that the verdict is predicted by the last token of the assistant's header"),
    ),
    Adapter(
        name="math-shepherd",
        chance=Chance.LABELS,
        layout=Layout.TEXT,
        system="",
        opening="<s>{problem} ",
        mark=" \N{CYRILLIC SMALL LETTER KA}\N{CYRILLIC SMALL LETTER I}",
        joint="\n",
        good=0,
        labels=(648, 387),
        head="language",
        vllm="vllm serve MODEL",
        source="Math-Shepherd (arXiv 2312.08935); peiyi9979/math-shepherd-mistral-7b-prm's card",
        unverified=(
            TOKENIZER,
            "that the mark is one token, 12902, after every text",
            "the line break between steps, where search-and-learn has two",
        ),
    ),
    Adapter(
        name="token-classification",
        head="token-classification",
        vllm="vllm serve MODEL --runner pooling",
        source="Let's Verify Step by Step (arXiv 2305.20050), as token classification",
        unverified=(TEMPLATE, "which class means a good step"),
    ),
    Adapter(
        name="last-token-classification",
        head="sequence-classification",
        vllm='vllm serve MODEL --runner pooling --pooler-config \'{"task":"classify"}\'',
        source="sequence classification read at the end of each prefix",
        unverified=(TEMPLATE, "which class means a good step"),
    ),
)

ADAPTERS: Mapping[str, Adapter] = MappingProxyType({adapter.name: adapter for adapter in _ALL})
"""Every known kind of process reward model."""


def find_adapter(given: str | Adapter) -> Adapter:
    """Return an adapter by its name; one that is made already is returned as it is.

    Raises:
        UnknownNameError: There is none of that name.
    """
    if isinstance(given, Adapter):
        return given
    if given not in ADAPTERS:
        raise UnknownNameError("reward model adapter", given, ADAPTERS)
    return ADAPTERS[given]


def opened(adapter: Adapter, messages: Sequence[Message]) -> Asked:
    """Return what the model reads before the first step.

    Raises:
        ProblemError: The adapter has room for one question alone, and the conversation is longer or asks none.
    """
    if adapter.opening is not None:
        return adapter.opening.replace(PROBLEM, _question(adapter, messages))
    if adapter.system is None:
        return tuple(messages)
    system = (Message(role="system", content=adapter.system),) if adapter.system else ()
    return (*system, *(message for message in messages if message.role != "system"))


def piece(adapter: Adapter, step: str) -> tuple[str, ...]:
    """Return the texts that stand for a step, each of which is tokenized by itself."""
    if not adapter.mark:
        return (step,)
    body = step.rstrip()
    if not adapter.mark_apart:
        return (body + adapter.mark,)
    return tuple(text for part in body.split(adapter.mark) for text in (part, adapter.mark) if text)


def grown(adapter: Adapter, messages: Sequence[Message], steps: Sequence[str]) -> list[Asked]:
    """Return what the model reads up to the place where each step's score is read, as one text or conversation each.

    Raises:
        ProblemError: The adapter has room for one question alone, and the conversation is longer or asks none.
    """
    start = opened(adapter, messages)
    return _texts(adapter, start, steps) if isinstance(start, str) else _turns(adapter, start, steps)


def _texts(adapter: Adapter, start: str, steps: Sequence[str]) -> list[Asked]:
    found: list[Asked] = []
    text = start
    for place, step in enumerate(steps):
        text += (adapter.joint if place else "") + "".join(piece(adapter, step))
        found.append(text)
    return found


def _turns(adapter: Adapter, start: tuple[Message, ...], steps: Sequence[str]) -> list[Asked]:
    problem = _question(adapter, start)
    before = [message for message in start if message.role == "system"]
    found: list[Asked] = []
    for place, step in enumerate(steps):
        said = step.strip() + adapter.mark
        before.append(Message(role="user", content=said if place else problem + adapter.joint + said))
        found.append(tuple(before))
        before.append(Message(role="assistant", content=adapter.verdict))
    return found


def _question(adapter: Adapter, messages: Sequence[Message]) -> str:
    asked = [message for message in messages if message.role != "system"]
    if len(asked) != 1 or asked[0].role != "user":
        roles = ", ".join(message.role for message in messages) or "nothing"
        raise ProblemError(f"adapter {adapter.name} reads one question of a user; the conversation holds {roles}")
    return asked[0].content
