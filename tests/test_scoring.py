"""Scores belong to who gave them and to what they judged, and every attempt is charged."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import tts
from tests.freely import freely
from tts.errors import ScoreValueError, TransientError
from tts.fakes import FakeClock, ScriptedGenerator, ScriptedVerifier, tree_script
from tts.notation import expand, keep, loop, score, subtrees
from tts.protocols import Path, PathScore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.graph import Node
    from tts.search import Search
    from tts.selection import Answer


def same(value: float, text: str) -> float:
    return value


async def test_verifiers_that_come_and_go_do_not_inherit_scores() -> None:
    async def body(s: Search) -> list[Node]:
        pool = await s.expand(s.root, 2, whole=True)
        for place in range(100):
            await s.score(pool, by=ScriptedVerifier(value=partial(same, place / 100)))
            assert [node.score for node in pool] == [place / 100] * 2
        return pool

    await tts.solve("?", strategy=freely(body), generator=ScriptedGenerator(tree_script()))


async def test_a_path_is_judged_again_once_it_has_finished() -> None:
    class Strict(ScriptedVerifier):
        def _judge(self, path: Path) -> PathScore:
            return PathScore([0.9 if path.finished else 0.1] * len(path.steps))

    def script(path: str, seed: int) -> str:
        return "" if path else "The answer is \\boxed{1}\n\n"

    outcome = await tts.solve(
        "?", strategy=tts.strategy("a_star"), generator=ScriptedGenerator(script), verifier=Strict()
    )
    assert outcome.answer == "1"
    assert outcome.candidates[0].score == 0.9


@pytest.mark.parametrize("deduplicate", [True, False])
async def test_an_end_that_says_nothing_more_is_no_duplicate(deduplicate: bool) -> None:
    def script(path: str, seed: int) -> str:
        steps = [f"one{seed % 5}\n\n", "The answer is \\boxed{1}\n\n"]
        return "".join(steps[path.count("\n\n") :])

    outcome = await tts.solve(
        "?", strategy=tts.strategy("a_star", complete=False, deduplicate=deduplicate),
        generator=ScriptedGenerator(script), verifier=ScriptedVerifier(),
    )  # fmt: skip
    assert outcome.answer == "1"
    assert outcome.usage.generated == 128


async def test_each_attempt_of_a_verifier_is_charged() -> None:
    class Shaky(ScriptedVerifier):
        async def score(self, paths: Sequence[Path]) -> list[PathScore]:
            replies = await super().score(paths)
            if self.calls < 3:
                raise TransientError("busy")
            return replies

    verifier = Shaky()
    outcome = await tts.solve(
        "?", strategy=tts.strategy("best_of_n", n=4), generator=ScriptedGenerator(tree_script()), verifier=verifier,
        clock=FakeClock(),
    )  # fmt: skip
    assert outcome.usage.verifier_calls == len(verifier.seen)


@pytest.mark.parametrize("began", [True, False])
async def test_an_attempt_that_was_turned_away_is_not_charged(began: bool) -> None:
    class Busy(ScriptedVerifier):
        refused = 0

        async def score(self, paths: Sequence[Path]) -> list[PathScore]:
            if self.refused < 2:
                self.refused += 1
                raise TransientError("busy", began=began)
            return await super().score(paths)

    events, verifier = list[tts.Event](), Busy()
    outcome = await tts.solve(
        "?", strategy=tts.strategy("best_of_n", n=4), generator=ScriptedGenerator(tree_script()), verifier=verifier,
        clock=FakeClock(), observers=[events.append],
    )  # fmt: skip
    told = sum(event.data["calls"] for event in events if event.kind == "verified")
    assert outcome.usage.verifier_calls == told
    assert (told > len(verifier.seen)) == began


@pytest.mark.parametrize(
    ("cost", "said"), [({"tokens": -300}, "tokens=-300"), ({"calls": -4}, "calls=-4"), ({"tokens": 0.5}, "tokens=0.5")]
)
async def test_a_verifier_takes_nothing_off_what_was_spent(cost: dict[str, Any], said: str) -> None:
    spoilt = ScriptedVerifier(spoil=lambda replies: [replace(reply, **cost) for reply in replies])
    with pytest.raises(ScoreValueError, match=rf"path 0 of 2: {said}; expected a count") as raised:
        await tts.solve(
            "?", strategy=tts.strategy("best_of_n", n=2), generator=ScriptedGenerator(tree_script()), verifier=spoilt
        )
    assert raised.value.outcome is not None
    assert raised.value.outcome.usage.verifier_calls == 2 and raised.value.outcome.usage.verifier_tokens == 0


async def test_a_beam_in_a_split_draws_as_many_first_steps_as_outside() -> None:
    class Inside(tts.Strategy):
        name: ClassVar[str] = "inside"

        async def search(self, s: Search) -> Answer:
            return (await s.split(1, tts.strategy("beam", finished_slots="hold").search))[0]

    drawn: list[int] = []
    await tts.solve(
        "?", strategy=Inside(), generator=ScriptedGenerator(tree_script()), verifier=ScriptedVerifier(),
        observers=[lambda event: drawn.append(event.data["drawn"]) if event.kind == "batch" else None],
    )  # fmt: skip
    assert drawn[0] == 16


def test_subtrees_cannot_stand_where_they_would_begin_again() -> None:
    tree = expand(2) >> score() >> keep(1)
    with pytest.raises(tts.TTSError, match="never end"):
        loop(subtrees(2, tree))
    with pytest.raises(tts.TTSError, match="begins at the root"):
        expand(2) >> subtrees(2, tree)


@pytest.mark.parametrize("limit", [{"tokens": "-5"}, {"tokens": "0"}, {"seconds": "nan"}, {"seconds": "inf"}])
def test_limits_written_as_text_are_checked_too(limit: dict[str, str]) -> None:
    with pytest.raises(tts.TTSError, match="positive and finite"):
        tts.Budget.model_validate(limit)
