"""A trace gives the graph back, sums to the outcome, and survives a crash."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import tts
from tts.answers import MathAnswerReader
from tts.backends.replay import Replay
from tts.errors import FileFormatError
from tts.fakes import ScriptedGenerator, ScriptedVerifier, shuffled, tree_script
from tts.trace import parse_key, read_trace

if TYPE_CHECKING:
    from tts.graph import Node, SearchGraph


def chosen(name: str, **parameters: some.SearchStrategy[Any]) -> some.SearchStrategy[tts.Strategy]:
    return some.fixed_dictionaries(parameters).map(lambda values: tts.strategy(name, **values))


UP_TO_4, UP_TO_9 = some.integers(1, 4), some.integers(1, 9)
STRATEGIES = some.one_of(
    chosen("best_of_n", n=UP_TO_9),
    chosen("beam", width=UP_TO_4, expansion=UP_TO_4, lookahead=some.integers(0, 2)),
    chosen("particle_filter", n=UP_TO_9),
    chosen("a_star", parallel=UP_TO_4, expansion=UP_TO_4, as_completed=some.booleans()),
    chosen("first_finish", n=UP_TO_9, k=UP_TO_4, tie=some.sampled_from(["arrival", "tokens"])),
    chosen("self_consistency", n=UP_TO_9, stopping=some.sampled_from(["none", "beta"]), confidence=some.just(0.7)),
)
BUDGETS = some.one_of(
    some.just(tts.Budget()),
    some.builds(tts.Budget, tokens=some.integers(1, 2000)),
    some.builds(tts.Budget, samples=some.integers(1, 40)),
    some.builds(tts.Budget, verifier_calls=some.integers(1, 40)),
)


def search(path: Path, strategy: str | tts.Strategy, **options: Any) -> tts.Outcome:
    generator = ScriptedGenerator(tree_script(), schedule=shuffled(options.pop("schedule", 0)))
    verifier = ScriptedVerifier(schedule=shuffled(1))
    sampling = tts.Sampling(max_tokens=80, step_tokens=40)
    return tts.solve_sync(
        "hello", strategy=strategy, generator=generator, verifier=verifier, sampling=sampling, trace=path, **options
    )


def facts(node: Node) -> tuple[object, ...]:
    return (
        node.key, node.status, node.origin, node.text, node.score, node.scores, node.tokens, node.path_tokens,
        node.steps, node.path_steps, node.seed, node.arrival, node.digest, node.token_ids, node.logprobs, node.answer,
    )  # fmt: skip


def graphs_are_equal(first: SearchGraph, second: SearchGraph) -> bool:
    return list(map(facts, first)) == list(map(facts, second)) and first.prompt == second.prompt


@settings(max_examples=60, deadline=None)
@given(strategy=STRATEGIES, budget=BUDGETS, schedule=some.integers(0, 9), seed=some.integers(0, 9))
def test_trace_gives_the_graph_back_sums_to_the_outcome_and_replays(
    strategy: tts.Strategy, budget: tts.Budget, schedule: int, seed: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        outcome = search(path, strategy, budget=budget, schedule=schedule, seed=seed)
        [trace] = read_trace(path)
    assert outcome.graph is not None
    assert graphs_are_equal(trace.graph(MathAnswerReader()), outcome.graph)
    assert trace.outcome == outcome.model_dump(mode="json")
    assert trace.generated() == outcome.usage.generated
    told = [event for event in trace.events if event["event"] in ("verified", "prompt")]
    assert sum(event.get("calls", 0) for event in told) == outcome.usage.verifier_calls
    assert sum(event.get("computed", 0) for event in told) == outcome.usage.prompt_computed
    assert trace.options()["strategy"] == strategy
    replayed = tts.solve_sync(trace.problem, **Replay(trace, patience=5).options())
    assert replayed.graph is not None
    assert graphs_are_equal(replayed.graph, outcome.graph)
    assert replayed.usage.generated == outcome.usage.generated
    assert (replayed.answer, replayed.candidates) == (outcome.answer, outcome.candidates)


class Hinted(tts.Strategy):
    """Gives text, and splits."""

    name = "hinted"

    async def search(self, s: tts.Search) -> tts.Answer:
        async def part(search: tts.Search) -> list[Node]:
            hint = await search.transform(search.root, "Let me think.\n\n")
            return await search.expand(hint, 2, whole=True)

        return tts.best(node for nodes in await s.split(2, part) for node in nodes)


def test_given_text_and_branches_come_back(tmp_path: Path) -> None:
    outcome = search(tmp_path / "x.jsonl", Hinted())
    [trace] = read_trace(tmp_path / "x.jsonl")
    assert outcome.graph is not None
    assert graphs_are_equal(trace.graph(MathAnswerReader()), outcome.graph)
    assert {node.origin.value for node in outcome.graph} == {"root", "branch", "given", "sampled"}


def test_several_problems_share_a_file(tmp_path: Path) -> None:
    problems = [tts.Problem(messages=(tts.Message(role="user", content=f"problem {n}"),), id=str(n)) for n in range(5)]
    outcomes = tts.solve_many_sync(
        problems, generator=ScriptedGenerator(tree_script(), schedule=shuffled(3)), trace=tmp_path / "x.jsonl"
    )
    graphs = {outcome.problem: outcome.graph for outcome in outcomes}
    traces = read_trace(tmp_path / "x.jsonl")
    assert {trace.problem.id for trace in traces} == {"0", "1", "2", "3", "4"}
    for trace in traces:
        graph = graphs[trace.problem.id]
        assert graph is not None
        assert graphs_are_equal(trace.graph(MathAnswerReader()), graph)


def test_every_prefix_of_a_trace_can_be_read(tmp_path: Path) -> None:
    search(tmp_path / "x.jsonl", "beam")
    whole = (tmp_path / "x.jsonl").read_text()
    start = whole.index("\n") + 1
    for end in range(start, len(whole), 997):
        (tmp_path / "cut.jsonl").write_text(whole[:end])
        [trace] = read_trace(tmp_path / "cut.jsonl")
        assert trace.outcome is None
        assert len(trace.graph(MathAnswerReader())) <= whole.count('"event":"node"') + 1


def spoilt(path: Path, line: int, text: str) -> Path:
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    other = path.with_name("spoilt.jsonl")
    other.write_text("\n".join(lines) + "\n")
    return other


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("garbage", "spoilt.jsonl:3: not JSON"),
        ('{"event": "node", "ke', "spoilt.jsonl:3: not JSON"),
        ("[1, 2]", "spoilt.jsonl:3: not an event"),
        ('{"event": "node", "search": 7}', "spoilt.jsonl:3: an event before the start of its search"),
        ('{"event": "start", "search": 7, "format": 99}', "spoilt.jsonl:3: trace format 99; this version reads 1"),
    ],
)
def test_a_bad_line_in_the_middle_is_named(tmp_path: Path, text: str, message: str) -> None:
    search(tmp_path / "x.jsonl", "best_of_n")
    with pytest.raises(FileFormatError, match=message):
        read_trace(spoilt(tmp_path / "x.jsonl", 3, text))


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name, message in (("empty", "no search"), ("bytes", "cannot be read"), ("nowhere", "cannot be read")):
        with pytest.raises(FileFormatError, match=message):
            read_trace(tmp_path / name)


def test_a_node_before_its_parent_is_refused(tmp_path: Path) -> None:
    search(tmp_path / "x.jsonl", "best_of_n")
    [trace] = read_trace(tmp_path / "x.jsonl")
    node = next(event for event in trace.events if event["event"] == "node")
    trace.events.insert(0, {**node, "key": "4.2"})
    with pytest.raises(FileFormatError, match=r"node 4\.2 comes before its parent 4"):
        trace.graph(MathAnswerReader())


def test_keys_are_read_back() -> None:
    assert parse_key("") == ()
    assert parse_key("0.31.2") == (0, 31, 2)


def test_text_of_any_kind_survives(tmp_path: Path) -> None:
    said = "\x1b[31m</script> \u2028 \ud800 \x00 é \U0001f600 The answer is \\boxed{1}"
    generator = ScriptedGenerator(lambda path, seed: said)
    strategy = tts.strategy("self_consistency", n=1)
    outcome = tts.solve_sync("hello", strategy=strategy, generator=generator, trace=tmp_path / "x")
    [trace] = read_trace(tmp_path / "x")
    assert outcome.graph is not None
    assert [node.text for node in trace.graph(MathAnswerReader())] == ["", said]
    assert all(json.loads(line) for line in (tmp_path / "x").read_text().splitlines())
