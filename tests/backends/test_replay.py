"""A replay gives back what its trace recorded: graph, answer and charges, whatever the strategy made of timing."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import tts
from tts import registry
from tts.backends.cues import split_verdict
from tts.backends.replay import Replay
from tts.errors import BackendError, NeedsError, ProblemError, TransientError, VerifierError
from tts.fakes import FakeClock, ScriptedGenerator, ScriptedVerifier, paced, shuffled, tree_script
from tts.graph import Status
from tts.protocols import Strategy
from tts.selection import Answer, best
from tts.trace import SearchTrace, read_trace

if TYPE_CHECKING:
    from pathlib import Path

    from tts.graph import Node
    from tts.search import Search

STRATEGIES: dict[str, dict[str, Any]] = {
    "best_of_n": {"n": 6},
    "self_consistency": {"n": 12, "stopping": "beta", "confidence": 0.7},
    "beam": {"width": 2, "expansion": 3},
    "particle_filter": {"n": 5},
    "a_star": {"parallel": 3, "expansion": 3, "as_completed": True},
    "first_finish": {"n": 8, "k": 2, "tie": "arrival"},
    "first_finish_by_length": {"n": 8, "k": 2, "tie": "tokens"},
}
"""One of each kind of search: by whole answers and by steps, in key order and by arrival."""


class Rash(Strategy):
    """Leaves as soon as two scored children have come, so that others are cut in flight or while they are judged."""

    name = "rash"

    @property
    def order_sensitive(self) -> bool:
        return True

    async def search(self, s: Search) -> Answer:
        pool: list[Node] = []
        live = [s.root]
        while live:
            hint = await s.transform(live[0], "Wait.\n\n") if pool else live[0]
            async with s.arrivals([hint, *live[1:]], 4, scored=True, order="arrival") as block:
                live = []
                async for child in block:
                    pool.append(child)
                    live += [] if child.done else [child]
                    if len(live) == 2:
                        break
        return best(pool)


@pytest.fixture(autouse=True)
def rash_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay finds its strategy by name; tests over the whole registry are not to see this one."""
    monkeypatch.setitem(registry._added["strategy"], "rash", Rash)


def no_fault(call: int) -> None:
    return None


def make(name: str) -> Strategy:
    return tts.strategy(name.removesuffix("_by_length"), **STRATEGIES.get(name, {}))


async def record(path: Path, strategy: Strategy, schedule: int = 1, **options: Any) -> tuple[tts.Outcome, SearchTrace]:
    faults = options.pop("faults", no_fault)
    options.setdefault("generator", ScriptedGenerator(tree_script(), schedule=shuffled(schedule), faults=faults))
    options.setdefault("verifier", ScriptedVerifier(schedule=shuffled(schedule)))
    options |= {"trace": path, "retry": tts.Retry(first_delay=0.0)}
    try:
        outcome = await tts.solve("hello", strategy=strategy, **options)
    except tts.TTSError as error:
        assert error.outcome is not None
        outcome = error.outcome
    return outcome, read_trace(path)[0]


def nodes_of(outcome: tts.Outcome | None) -> list[tuple[object, ...]]:
    assert outcome is not None and outcome.graph is not None
    return [
        (n.key, n.status, n.origin, n.text, n.tokens, n.score, n.scores, n.seed, n.arrival, n.logprobs, n.token_ids)
        for n in outcome.graph
    ]


def charges(outcome: tts.Outcome | None) -> dict[str, object]:
    assert outcome is not None
    return outcome.usage.model_dump(exclude={"seconds", "verifier_seconds"})


async def check(path: Path, recorded: tts.Outcome, trace: SearchTrace) -> None:
    """Replay, and compare everything; the trace of the replay tells the same events."""
    again = path.with_suffix(".again")
    replayed = await tts.solve(trace.problem, **Replay(trace, patience=2).options(trace=again))
    assert nodes_of(replayed) == nodes_of(recorded)
    assert charges(replayed) == charges(recorded)
    exclude = {"usage"}
    assert replayed.model_dump(exclude=exclude) == recorded.model_dump(exclude=exclude)
    assert told(read_trace(again)[0]) == told(trace)


def told(trace: SearchTrace) -> Counter[str]:
    """What was told but for when; the search's own tasks may take turns otherwise, and judge path by path."""
    counted: Counter[str] = Counter()
    for event in trace.events:
        if event["event"] in ("judging", "verdicts"):
            values = event.get("values", [None] * len(event["keys"]))
            counted.update(f"{event['event']} {key} {value}" for key, value in zip(event["keys"], values, strict=True))
        elif event["event"] not in ("end", "verified"):
            counted[json.dumps({name: value for name, value in event.items() if name != "seconds"})] += 1
    return counted


@pytest.mark.parametrize("schedule", range(4))
@pytest.mark.parametrize("name", [*STRATEGIES, "rash"])
async def test_replay_reproduces_graph_answer_and_charges(tmp_path: Path, name: str, schedule: int) -> None:
    recorded, trace = await record(tmp_path / "x.jsonl", make(name), schedule)
    await check(tmp_path / "x.jsonl", recorded, trace)


@pytest.mark.parametrize("schedule", range(4))
@pytest.mark.parametrize("name", ["beam", "particle_filter", "a_star", "rash"])
@pytest.mark.parametrize("limits", [{"tokens": 300}, {"samples": 13}, {"verifier_calls": 7}])
async def test_replay_reproduces_a_search_that_its_budget_cut(
    tmp_path: Path, name: str, schedule: int, limits: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"budget": tts.Budget(**limits), "sampling": tts.Sampling(max_tokens=60, step_tokens=30)}
    recorded, trace = await record(tmp_path / "x.jsonl", make(name), schedule, **options)
    await check(tmp_path / "x.jsonl", recorded, trace)


@pytest.mark.parametrize("name", ["beam", "a_star", "first_finish_by_length"])
@pytest.mark.parametrize("concurrency", [1, 2])
async def test_replay_reproduces_requests_that_waited_for_others(tmp_path: Path, name: str, concurrency: int) -> None:
    recorded, trace = await record(tmp_path / "x.jsonl", make(name), concurrency=concurrency)
    replayed = await tts.solve(trace.problem, **Replay(trace, patience=2).options())
    # What had waited to the end was never started then, and is cut before its first token now.
    assert [node for node in nodes_of(replayed) if node[1] is not Status.CANCELLED or node[4]] == nodes_of(recorded)
    assert (replayed.answer, replayed.usage.generated) == (recorded.answer, recorded.usage.generated)


@pytest.mark.parametrize("name", ["best_of_n", "beam", "a_star", "first_finish_by_length"])
async def test_replay_raises_recorded_faults_again(tmp_path: Path, name: str) -> None:
    def every_third(call: int) -> Exception | None:
        return TransientError("down for a moment") if call % 3 == 0 else None

    recorded, trace = await record(tmp_path / "x.jsonl", make(name), faults=every_third)
    assert any(event["event"] == "failed" for event in trace.events)
    await check(tmp_path / "x.jsonl", recorded, trace)


@pytest.mark.parametrize("name", ["beam", "best_of_n"])
async def test_replay_ends_in_the_recorded_error(tmp_path: Path, name: str) -> None:
    def gone(call: int) -> Exception | None:
        return BackendError("gone") if call == 2 or name == "best_of_n" else None

    recorded, trace = await record(tmp_path / "x.jsonl", make(name), faults=gone)
    assert recorded.error == "BackendError: gone"
    with pytest.raises(BackendError, match="as traced: BackendError: gone") as raised:
        await tts.solve(trace.problem, **Replay(trace, patience=2).options())
    assert nodes_of(raised.value.outcome) == nodes_of(recorded)
    assert charges(raised.value.outcome) == charges(recorded)


def terse(path: str, seed: int) -> str:
    """Say nothing at every third turn."""
    return "\n\n" if seed % 3 == 0 else tree_script()(path, seed)


@pytest.mark.parametrize("name", ["beam", "rash"])
async def test_replay_draws_empty_steps_again(tmp_path: Path, name: str) -> None:
    generator = ScriptedGenerator(terse, schedule=shuffled(5))
    recorded, trace = await record(tmp_path / "x.jsonl", make(name), generator=generator)
    assert recorded.usage.failed
    await check(tmp_path / "x.jsonl", recorded, trace)


@pytest.mark.parametrize("name", ["best_of_n", "beam", "first_finish"])
@pytest.mark.parametrize("seconds", [3.5, 9.5, 30.5])
async def test_replay_ends_where_a_deadline_cut(tmp_path: Path, name: str, seconds: float) -> None:
    clock = FakeClock()
    generator = ScriptedGenerator(tree_script(), schedule=paced(clock))
    options: dict[str, Any] = {"generator": generator, "clock": clock, "budget": tts.Budget(seconds=seconds)}
    recorded, trace = await record(tmp_path / "x.jsonl", make(name), **options)
    await check(tmp_path / "x.jsonl", recorded, trace)
    assert recorded.limit == "seconds" or seconds > 20


@pytest.mark.parametrize("name", ["beam", "best_of_n", "rash"])
async def test_replay_ends_in_the_verifiers_error(tmp_path: Path, name: str) -> None:
    verifier = ScriptedVerifier(schedule=shuffled(3))
    verifier.spoil = lambda replies: replies if verifier.calls < 3 and name != "best_of_n" else replies[1:]
    recorded, trace = await record(tmp_path / "x.jsonl", make(name), verifier=verifier)
    with pytest.raises(VerifierError, match="as traced: ScoreCountError") as raised:
        await tts.solve(trace.problem, **Replay(trace, patience=2).options())
    assert nodes_of(raised.value.outcome) == nodes_of(recorded)
    assert charges(raised.value.outcome) == charges(recorded)


async def test_replay_of_a_trace_cut_by_a_crash_ends_where_it_does(tmp_path: Path) -> None:
    await record(tmp_path / "x.jsonl", make("beam"))
    lines = (tmp_path / "x.jsonl").read_text().splitlines(keepends=True)
    for kept in range(1, len(lines) - 1, 7):
        (tmp_path / "cut.jsonl").write_text("".join(lines[:kept]) + lines[kept][:20])
        cut = read_trace(tmp_path / "cut.jsonl")[0]
        with pytest.raises((BackendError, VerifierError), match="the trace ends here"):
            await tts.solve(cut.problem, **Replay(cut, patience=2).options())


async def test_replay_tells_another_verifier_what_was_sampled(tmp_path: Path) -> None:
    recorded, trace = await record(tmp_path / "x.jsonl", make("best_of_n"))
    shortest = ScriptedVerifier(value=lambda path: 1 / len(path))
    replayed = await tts.solve(trace.problem, **Replay(trace).options(verifier=shortest))
    assert [node[3] for node in nodes_of(replayed)] == [node[3] for node in nodes_of(recorded)]
    assert len(replayed.text) == min(len(candidate.text) for candidate in recorded.candidates)


async def test_replay_refuses_what_the_trace_does_not_hold(tmp_path: Path) -> None:
    _, trace = await record(tmp_path / "x.jsonl", make("beam"))
    with pytest.raises(ProblemError, match="another problem: 'hello'"):
        await tts.solve("goodbye", **Replay(trace).options())
    with pytest.raises(BackendError, match=r"not in the trace: a request of seed [0-9]+ for 6 children"):
        await tts.solve(trace.problem, **Replay(trace).options(seed=1))
    with pytest.raises(BackendError, match=r"continues another path|not asked for by the search"):
        other = tts.strategy("beam", width=1, expansion=6)
        await tts.solve(trace.problem, **Replay(trace, patience=0.1).options(strategy=other))
    _, plain = await record(tmp_path / "y.jsonl", make("self_consistency"), verifier=None)
    with pytest.raises(NeedsError, match="had no verifier"):
        Replay(plain).verifier()


async def test_replay_without_its_observer_and_clock_still_gives_the_answer(tmp_path: Path) -> None:
    recorded, trace = await record(tmp_path / "x.jsonl", make("first_finish"))
    replay = Replay(trace)
    replayed = await tts.solve(trace.problem, generator=replay.generator, verifier=replay.verifier(), **trace.options())
    assert nodes_of(replayed) == nodes_of(recorded)


def test_a_verdict_on_two_paths_is_divided_where_only_the_first_is_asked_about() -> None:
    cues: list[dict[str, Any]] = [
        {"event": "judging", "keys": ["1", "4"]},
        {"event": "node", "key": "5"},
        {"event": "verified", "keys": ["1", "4"], "calls": 2, "tokens": 30},
        {"event": "verdicts", "keys": ["1", "4"], "values": [[0.1], [0.4]]},
    ]
    whole = [dict(cue) for cue in cues]
    assert not split_verdict(whole[:2], 0, 1), "it never came"
    assert split_verdict(cues, 0, 1)
    assert [(cue["event"], cue.get("keys"), cue.get("tokens"), cue.get("values")) for cue in cues] == [
        ("judging", ["1"], None, None),
        ("verified", ["1"], 30, None),
        ("verdicts", ["1"], None, [[0.1]]),
        ("judging", ["4"], None, None),
        ("node", None, None, None),
        ("verified", ["4"], 0, None),
        ("verdicts", ["4"], None, [[0.4]]),
    ]
    assert [cue["calls"] for cue in cues if cue["event"] == "verified"] == [1, 1]
