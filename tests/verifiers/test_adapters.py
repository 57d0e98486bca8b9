"""The adapters of process reward models: what each has its model read, and where its word is, on a scripted scorer."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, replace
from typing import TYPE_CHECKING

import pytest

from tts.capabilities import ScorerCapabilities
from tts.errors import NeedsError, ParameterError, ProblemError, UnknownNameError, VerifierError
from tts.protocols import Path
from tts.testing import check_verifier
from tts.types import Message
from tts.verifiers.adapters import ADAPTERS, Adapter, Chance, Layout, Place, find_adapter
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM = Message(role="system", content="Be brief.")
USER = Message(role="user", content="1+1?")
STEPS = ("Add.\n\n", "It is 2")
QWEN = "[system]Please reason step by step, and put your final answer within \\boxed{}.[user]1+1?[assistant]"
CHAT = "[system]Be brief.[user]1+1?[assistant]"
READS: dict[str, list[str]] = {
    "qwen2.5-math-prm": [QWEN + "Add.<extra_0>", QWEN + "Add.<extra_0>It is 2<extra_0>"],
    "skywork-o1-open-prm": ["<|endoftext|>1+1?\nAdd.\n", "<|endoftext|>1+1?\nAdd.\nIt is 2\n"],
    "rlhflow": ["[user]1+1? Add.[assistant]", "[user]1+1? Add.[assistant]+[user]It is 2[assistant]"],
    "math-shepherd": ["<s>1+1? Add. ки", "<s>1+1? Add. ки\nIt is 2 ки"],
    "token-classification": [CHAT + "Add.\n\n", CHAT + "Add.\n\nIt is 2"],
}
READS["last-token-classification"] = READS["token-classification"]


SCALE = 100_000
MARKS = {text: chr(0xE000 + place) for place, text in enumerate(("<extra_0>", " ки", "<s>", "<|endoftext|>"))}
"""Texts that are one token, as private characters."""


class TextScorer:
    """A token a character or mark; notes where it was asked, and says how many tokens came before, over `SCALE`."""

    def __init__(
        self,
        *,
        classes: int = 2,
        labels: bool = False,
        rewrites: bool = False,
        activation: str = "",
        marks: bool = True,
        context: int | None = None,
    ) -> None:
        self.capabilities = ScorerCapabilities(
            name="text", classes=classes, labels=labels, local=True, context=context,
            fingerprint={"activation": activation},
        )  # fmt: skip
        self.asked: list[str] = []
        self.tokenized: list[str] = []
        self.labels: Sequence[int] | None = None
        self._rewrites = rewrites
        self._marks = MARKS if marks else {}

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        turns = "".join(f"[{message.role}]{message.content}" for message in messages)
        return list(map(ord, f"{len(messages) if self._rewrites else ''}{turns}[assistant]"))

    async def tokenize(self, text: str) -> Sequence[int]:
        self.tokenized.append(text)
        for mark, character in self._marks.items():
            text = text.replace(mark, character)
        return list(map(ord, text))

    async def probabilities(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        *,
        labels: Sequence[int] | None = None,
    ) -> list[list[list[float]]]:
        self.labels = labels
        wide = self.capabilities.classes if labels is None else len(labels)
        for ids, places in zip(sequences, positions, strict=True):
            text = "".join(map(chr, ids))
            self.asked += [written(text[: place + 1]) for place in places]
        return [[_row(place, wide) for place in places] for places in positions]

    async def aclose(self) -> None:
        """Nothing."""


def written(text: str) -> str:
    """Return what was tokenized."""
    for mark, character in MARKS.items():
        text = text.replace(character, mark)
    return text


def length(text: str) -> int:
    """Return how many tokens a text is."""
    return len(text) - sum(text.count(mark) * (len(mark) - 1) for mark in MARKS)


def _row(place: int, wide: int) -> list[float]:
    good = place / SCALE
    return [good] if wide == 1 else [good, *[(1 - good) / (wide - 1)] * (wide - 1)]


def scorer_for(name: str) -> TextScorer:
    """Return a scorer that gives what an adapter reads."""
    chance = ADAPTERS[name].chance
    if chance is Chance.LABELS:
        return TextScorer(classes=0, labels=True)
    return TextScorer(classes=1 if chance is Chance.SIGMOID else 2)


def path(*steps: str, messages: tuple[Message, ...] = (SYSTEM, USER)) -> Path:
    return Path(messages, steps, False)


@pytest.mark.parametrize("name", ADAPTERS)
async def test_what_is_read_and_where(name: str) -> None:
    scorer = scorer_for(name)
    verifier = ProcessReward(scorer, adapter=name)
    await verifier.connect()
    (reply,) = await verifier.score([path(*STEPS)])
    assert scorer.asked == READS[name]
    good = [(length(text) - 1) / SCALE for text in READS[name]]
    assert list(reply.values) == pytest.approx(good if ADAPTERS[name].good == 0 else [1 - value for value in good])
    assert reply.tokens == length(READS[name][-1])


@pytest.mark.parametrize("name", ADAPTERS)
async def test_the_clauses_are_kept(name: str) -> None:
    await check_verifier(lambda: ProcessReward(scorer_for(name), adapter=name), "1+1?", STEPS)


async def test_labels_are_the_adapter_s_until_others_are_given() -> None:
    scorer = scorer_for("math-shepherd")
    await ProcessReward(scorer, adapter="math-shepherd").score([path("a")])
    assert scorer.labels == (648, 387)
    await ProcessReward(scorer, adapter="math-shepherd", labels=("+", "-")).score([path("a")])
    assert scorer.labels == (ord("+"), ord("-"))


async def test_a_mark_that_stands_apart_is_tokenized_by_itself_within_a_step_too() -> None:
    scorer = scorer_for("skywork-o1-open-prm")
    (reply,) = await ProcessReward(scorer, adapter="skywork-o1-open-prm").score([path("a:\n\nb\n\n", " \n", "c")])
    assert set(scorer.tokenized) == {"<|endoftext|>", "<|endoftext|>1+1?\n", "a:", "b", "c", "\n"}
    assert [text.removeprefix("<|endoftext|>1+1?\n") for text in scorer.asked] == [
        "a:\n\nb\n", "a:\n\nb\n\n", "a:\n\nb\n\nc\n"
    ]  # fmt: skip
    assert len(reply.values) == 3


async def test_a_turn_is_stripped_as_the_authors_strip_it() -> None:
    scorer = scorer_for("rlhflow")
    await ProcessReward(scorer, adapter="rlhflow").score([path("\n a\n\n", "\n b \n\n")])
    assert scorer.asked == ["[user]1+1? a[assistant]", "[user]1+1? a[assistant]+[user]b[assistant]"]


@pytest.mark.parametrize("name", ["qwen2.5-math-prm", "math-shepherd"])
async def test_a_tokenizer_without_the_mark_is_refused(name: str) -> None:
    scorer = scorer_for(name)
    scorer._marks = {text: token for text, token in MARKS.items() if text != ADAPTERS[name].mark}
    with pytest.raises(ParameterError, match=r"reads scores at '.*', which is no token of its model: '1.*' is \[49, "):
        await ProcessReward(scorer, adapter=name).connect()
    with pytest.raises(ParameterError, match="give the model's own as mark="):
        await ProcessReward(scorer, adapter=name).score([path(*STEPS)])
    assert scorer.asked == []
    await ProcessReward(scorer, adapter=name, mark="#").score([path(*STEPS)])


@pytest.mark.parametrize(("name", "special"), [("skywork-o1-open-prm", "<|endoftext|>"), ("math-shepherd", "<s>")])
async def test_a_tokenizer_without_what_begins_a_text_is_refused(name: str, special: str) -> None:
    scorer = scorer_for(name)
    scorer._marks = {text: token for text, token in MARKS.items() if text != special}
    verifier = ProcessReward(scorer, adapter=name)
    with pytest.raises(ParameterError, match=f"begins with '{re.escape(special)}', which is no token of its model"):
        await verifier.connect()
    with pytest.raises(ParameterError, match="give an Adapter with the model's own opening"):
        await verifier.score([path(*STEPS)])


async def test_a_mark_that_became_one_token_with_the_step_is_refused() -> None:
    scorer = TextScorer()
    scorer._marks = {".#": "\ue000"}
    verifier = ProcessReward(scorer, mark="#")
    assert len((await verifier.score([path("a", "b")]))[0].values) == 2
    with pytest.raises(VerifierError, match=r"path 0 of 1: after step 1, 'b\.', the mark '#' is part of another token"):
        await verifier.score([path("a", "b.")])
    apart = replace(ADAPTERS["token-classification"], name="apart", mark="#", mark_apart=True)
    assert len((await ProcessReward(scorer, adapter=apart).score([path("a", "b.")]))[0].values) == 2


@pytest.mark.parametrize("name", ADAPTERS)
async def test_a_path_beyond_the_context_is_refused_before_anything_is_asked(name: str) -> None:
    scorer = scorer_for(name)
    scorer.capabilities = replace(scorer.capabilities, context=length(READS[name][-1]))
    await ProcessReward(scorer, adapter=name).score([path(*STEPS)])
    asked = len(scorer.asked)
    said = r"path 1 of 2: \d+ tokens are more than the \d+ that text holds: lower max_tokens, or use a model"
    with pytest.raises(ParameterError, match=said):
        await ProcessReward(scorer, adapter=name).score([path(*STEPS), path(*STEPS, "So 2 is it.")])
    assert len(scorer.asked) == asked


@pytest.mark.parametrize("name", ADAPTERS)
async def test_a_thousand_steps_are_as_many_scores(name: str) -> None:
    # Where each step is a conversation of its own, a thousand take seconds.
    count = 200 if ADAPTERS[name].layout is Layout.TURNS else 1000
    (reply,) = await ProcessReward(scorer_for(name), adapter=name).score([path(*("a\n\n",) * count)])
    assert len(reply.values) == count


async def test_labels_beside_an_adapter_of_classes_begin_with_the_good_one() -> None:
    scorer = TextScorer(classes=0, labels=True)
    verifier = ProcessReward(scorer, adapter="token-classification", labels=("+", "-"))
    (reply,) = await verifier.score([path("a")])
    assert list(reply.values) == pytest.approx([len(CHAT) / SCALE])


@pytest.mark.parametrize("name", ["rlhflow", "math-shepherd", "token-classification"])
async def test_a_path_without_steps_is_refused(name: str) -> None:
    with pytest.raises(VerifierError, match="path 1 of 2 has no steps to judge"):
        await ProcessReward(scorer_for(name), adapter=name).score([path("a"), path()])


async def test_a_step_without_a_token_is_refused() -> None:
    with pytest.raises(VerifierError, match="step 1, '', is no token"):
        await ProcessReward(TextScorer(), adapter="token-classification").score([path("a", "")])


async def test_a_template_that_rewrites_what_came_before_is_refused() -> None:
    scorer = TextScorer(classes=0, labels=True, rewrites=True)
    with pytest.raises(VerifierError, match="with step 1 the tokens before it change"):
        await ProcessReward(scorer, adapter="rlhflow").score([path("a", "b")])


@pytest.mark.parametrize("name", ["rlhflow", "math-shepherd", "skywork-o1-open-prm"])
async def test_a_conversation_of_several_turns_is_refused_where_there_is_room_for_one(name: str) -> None:
    turns = (USER, Message(role="assistant", content="2"), USER)
    with pytest.raises(ProblemError, match=f"{name} reads one question of a user; the conversation holds user, "):
        await ProcessReward(scorer_for(name), adapter=name).score([path("a", messages=turns)])


async def test_a_scorer_that_does_not_give_what_is_read_is_refused() -> None:
    with pytest.raises(NeedsError, match="skywork-o1-open-prm reads a single output; text tells 2 classes apart"):
        await ProcessReward(TextScorer(), adapter="skywork-o1-open-prm").connect()
    with pytest.raises(NeedsError, match="leave labels="):
        await ProcessReward(TextScorer(), adapter="rlhflow").connect()
    with pytest.raises(NeedsError, match="gives no classes"):
        await ProcessReward(TextScorer(classes=0, labels=True), adapter="qwen2.5-math-prm").connect()
    with pytest.raises(NeedsError, match="raw rewards, which are no probabilities"):
        await ProcessReward(TextScorer(classes=1, activation="none"), adapter="skywork-o1-open-prm").connect()


def test_an_unknown_adapter_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*qwen2\.5-math-prm"):
        ProcessReward(TextScorer(), adapter="qwen-math-prm")


def test_adapters_are_data_that_stays() -> None:
    adapter = find_adapter("rlhflow")
    with pytest.raises(FrozenInstanceError):
        adapter.good = 1  # type: ignore[misc]
    assert {name: known.name for name, known in ADAPTERS.items()} == {name: name for name in ADAPTERS}
    assert all(known.unverified and known.source for known in ADAPTERS.values())


def test_an_adapter_says_where_it_reads() -> None:
    assert {name: adapter.place for name, adapter in ADAPTERS.items()} == {
        "qwen2.5-math-prm": Place.MARK,
        "skywork-o1-open-prm": Place.MARK,
        "rlhflow": Place.VERDICT,
        "math-shepherd": Place.MARK,
        "token-classification": Place.STEP_END,
        "last-token-classification": Place.STEP_END,
    }


def test_results_tell_a_changed_adapter_from_the_known_one() -> None:
    known = ADAPTERS["rlhflow"]
    changed = replace(known, joint="\n")
    assert known.identity == "rlhflow"
    assert changed.identity.startswith("rlhflow#") and changed.identity != replace(known, joint="\n\n").identity
    able = ProcessReward(scorer_for("rlhflow"), adapter=changed).capabilities
    assert able.fingerprint["adapter"] == changed.identity
    assert "adapter" not in ProcessReward(TextScorer()).capabilities.fingerprint


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"chance": Chance.LABELS}, "labels=None, but its chance is 'labels'"),
        ({"labels": (1, 2)}, "its chance is 'classes'"),
        ({"layout": Layout.TURNS}, "verdict='' with layout 'turns'"),
        ({"verdict": "+"}, "verdict='\\+' with layout 'steps'"),
        ({"opening": "no place"}, "opening='no place' needs {problem}"),
        ({"layout": Layout.TEXT}, "one text needs an opening"),
        ({"joint": "\n"}, "joint='\\\\n' with layout 'steps'"),
        ({"mark_apart": True}, "mark_apart needs a mark, and layout 'steps'"),
        ({"mark": "#", "mark_apart": True, "layout": Layout.TEXT, "opening": "{problem}"}, "mark_apart needs a mark"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts: dict[str, object], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Adapter(name="odd", **parts)  # type: ignore[arg-type]
