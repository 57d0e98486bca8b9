"""The scorer, clause by clause."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import pytest

from tts.backends.embedded import EmbeddedScorer
from tts.backends.embedded.network import Lanes
from tts.backends.embedded.readers import Readers
from tts.backends.embedded.scorer import _chances
from tts.errors import EngineDeadError, ParameterError, ProblemError
from tts.types import Message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Answer = Sequence[Sequence[Sequence[float]]]


@pytest.fixture
def scorer(judge: Path) -> EmbeddedScorer:
    return EmbeddedScorer(judge)


def ragged(count: int) -> tuple[list[list[int]], list[list[int]]]:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(3, 50, rng.integers(1, 140)).tolist() for _ in range(count)]
    positions = [sorted(rng.choice(len(s), rng.integers(0, 1 + min(4, len(s))), replace=False)) for s in sequences]
    return sequences, [[int(place) for place in places] for places in positions]


async def test_one_probability_vector_for_each_position_in_order(scorer: EmbeddedScorer) -> None:
    """S1."""
    sequences, positions = ragged(40)
    found = await scorer.probabilities(sequences, positions)
    assert [len(rows) for rows in found] == [len(places) for places in positions]
    vectors = [vector for rows in found for vector in rows]
    assert {len(vector) for vector in vectors} == {scorer.capabilities.classes} == {3}
    assert all(sum(vector) == pytest.approx(1) and min(vector) >= 0 for vector in vectors)
    turned = await scorer.probabilities(sequences, [places[::-1] for places in positions])
    assert turned == [rows[::-1] for rows in found]


async def test_a_sequence_scores_the_same_beside_any_others(judge: Path) -> None:
    """S2: alone, together, of concurrent callers, with a cold and a warm cache, and with more threads."""
    sequences, positions = ragged(60)
    single = EmbeddedScorer(judge, cache_bytes=0)
    expected = [(await single.probabilities([s], [p]))[0] for s, p in zip(sequences, positions, strict=True)]
    for rows, cache_bytes, threads in ((64, 2**20, 1), (5, 30_000, 1), (16, 2**20, 2)):
        scorer = EmbeddedScorer(judge, rows=rows, cache_bytes=cache_bytes, threads=threads)
        assert await scorer.probabilities(sequences, positions) == expected
        found: list[Answer] = [[]] * 60

        async def ask(place: int, scorer: EmbeddedScorer = scorer, found: list[Answer] = found) -> None:
            found[place] = await scorer.probabilities([sequences[place]], [positions[place]])

        async with anyio.create_task_group() as tasks:
            for place in range(60):
                tasks.start_soon(ask, place)
        assert [answer[0] for answer in found] == expected


async def test_what_comes_after_a_position_does_not_matter(scorer: EmbeddedScorer) -> None:
    sequence = ragged(9)[0][8]
    assert len(sequence) > 20
    whole = await scorer.probabilities([sequence], [[9, len(sequence) - 1]])
    assert await scorer.probabilities([sequence[:10]], [[9]]) == [whole[0][:1]]


async def test_callers_are_read_together_off_the_event_loop(
    scorer: EmbeddedScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    threads: set[int] = set()
    gate = threading.Event()
    read = Lanes.read

    def noted(self: Lanes, readings: Any) -> Any:
        gate.wait(10)
        batches.append(len(readings))
        threads.add(threading.get_ident())
        return read(self, readings)

    monkeypatch.setattr(Lanes, "read", noted)
    async with anyio.create_task_group() as tasks:
        for place in range(9):
            tasks.start_soon(scorer.probabilities, [[5, 6, place + 3]], [[2]])
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert sum(batches) == 9
    assert len(batches) <= 2
    assert threading.get_ident() not in threads


async def test_a_cancelled_call_leaves_the_queue(judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = EmbeddedScorer(judge, rows=2)
    steps: list[int] = []
    begun = threading.Event()
    gate = threading.Event()
    step = Readers.step

    def noted(self: Readers) -> Any:
        begun.set()
        gate.wait(10)
        steps.append(1)
        return step(self)

    monkeypatch.setattr(Readers, "step", noted)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scorer.probabilities, [[5, 6]] * 100, [[1]] * 100)
        await anyio.to_thread.run_sync(begun.wait)
        tasks.cancel_scope.cancel()
        await anyio.lowlevel.cancel_shielded_checkpoint()
        gate.set()
    await scorer.probabilities([[5, 6]], [[1]])
    assert len(steps) <= 3
    await scorer.aclose()


async def test_prefixes_are_read_once(scorer: EmbeddedScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    read = Lanes.read

    def noted(self: Lanes, readings: Any) -> Any:
        lengths.extend(len(reading.tokens) for reading in readings)
        return read(self, readings)

    monkeypatch.setattr(Lanes, "read", noted)
    path = list(range(3, 33))
    await scorer.probabilities([path[:20]], [[19]])
    await scorer.probabilities([path], [[24, 27]])
    await scorer.probabilities([path], [[10]])
    assert lengths == [20, 8, 1]


async def test_a_language_model_gives_probabilities_of_labels(policy: Path) -> None:
    scorer = EmbeddedScorer(policy)
    assert (scorer.capabilities.classes, scorer.capabilities.labels) == (0, True)
    sequences = [[5, 6, 7], [8, 9]]
    found = await scorer.probabilities(sequences, [[2], [0, 1]], labels=[5, 9, 30])
    assert [[len(vector) for vector in rows] for rows in found] == [[3], [3, 3]]
    every = await scorer.probabilities(sequences, [[2], [0, 1]], labels=range(50))
    chosen = [every[0][0][label] for label in (5, 9, 30)]
    assert found[0][0] == pytest.approx([chance / sum(chosen) for chance in chosen])
    with pytest.raises(ParameterError, match="give labels"):
        await scorer.probabilities(sequences, [[2], [0]])
    with pytest.raises(ParameterError, match="labels \\[50\\]"):
        await scorer.probabilities(sequences, [[2], [0]], labels=[50])
    with pytest.raises(ParameterError, match="labels \\[\\]"):
        await scorer.probabilities(sequences, [[2], [0]], labels=[])


@pytest.mark.parametrize(
    ("sequences", "positions", "named"),
    [
        ([[5] * 145], [[0]], "145 tokens.*1 to 144"),
        ([[]], [[]], "0 tokens"),
        ([[5, 50]], [[1]], "5 to 50"),
        ([[5, 6]], [[2]], r"\[2\] do not lie in a sequence of 2"),
        ([[5, 6]], [[-1]], r"\[-1\]"),
        ([[5, 6]], [[1], [1]], "1 sequences, but positions for 2"),
    ],
)
async def test_what_cannot_be_read_is_refused(
    scorer: EmbeddedScorer, sequences: list[list[int]], positions: list[list[int]], named: str
) -> None:
    with pytest.raises(ParameterError, match=named):
        await scorer.probabilities(sequences, positions)


async def test_labels_are_refused_by_a_classifier(scorer: EmbeddedScorer) -> None:
    with pytest.raises(ParameterError, match="takes no labels"):
        await scorer.probabilities([[5]], [[0]], labels=[1])


async def test_nothing_asked_is_nothing_read(scorer: EmbeddedScorer) -> None:
    assert await scorer.probabilities([], []) == []
    assert await scorer.probabilities([[5, 6]], [[]]) == [[]]


async def test_conversations_become_tokens(scorer: EmbeddedScorer) -> None:
    ids = await scorer.encode([Message(role="user", content="Use 18, 14 to make 25.")])
    assert list(ids) == [47, 21, 45, 17, 48, 28, 49, 46]
    assert list(await scorer.tokenize("3 + 4")) == [6, 43, 7]
    assert list(await scorer.tokenize("3999")) == [2]  # what a model wrote is read, whatever it is
    with pytest.raises(ProblemError, match="does not know"):
        await scorer.encode([Message(role="user", content="three")])


async def test_a_closed_scorer_refuses(scorer: EmbeddedScorer) -> None:
    await scorer.aclose()
    with pytest.raises(EngineDeadError, match="embedded/judge was closed"):
        await scorer.probabilities([[5]], [[0]])


def test_large_logits_do_not_overflow() -> None:
    assert _chances(np.array([[2000.0, 1000.0]], np.float32), None) == [[1.0, 0.0]]


def test_capabilities_come_from_the_network(scorer: EmbeddedScorer) -> None:
    found = scorer.capabilities
    assert (found.name, found.classes, found.context) == ("embedded/judge", 3, 144)
    assert found.flops_per_token
    assert found.fingerprint["batch_invariant"] is True
