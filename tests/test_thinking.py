"""Thinking: told apart, ended at its own cap, whatever the strategy, and replayed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import tts
from tts.backends.replay import Replay
from tts.fakes import GENERATES, ScriptedGenerator, ScriptedVerifier, at_once, shuffled
from tts.trace import read_trace
from tts.types import Completion, Finish

if TYPE_CHECKING:
    from pathlib import Path

    from tts.protocols import GenerationRequest, Sink

CAPPED = tts.Sampling(max_tokens=120, step_tokens=60, thinking_tokens=20)
STRATEGIES = [
    tts.strategy("a_star"),
    tts.strategy("a_star", parallel=2, as_completed=True),
    tts.strategy("beam"),
    tts.strategy("beam", lookahead=2),
    tts.strategy("particle_filter", n=4),
    tts.strategy("best_of_n", n=3),
    tts.strategy("self_consistency", n=3),
    tts.strategy("first_finish", n=3),
]


def thinks(path: str, seed: int) -> str:
    """Thirty letters of thinking, then the answer; the answer at once where the thinking was ended."""
    return "\\boxed{1}" if path else "<think>" + "x" * 30 + "</think>\n\n\\boxed{1}"


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
async def test_every_strategy_goes_on_after_thinking_and_is_replayed(strategy: tts.Strategy, tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    outcome = await tts.solve(
        "?", strategy=strategy, generator=ScriptedGenerator(thinks), verifier=ScriptedVerifier(), sampling=CAPPED,
        trace=trace,
    )  # fmt: skip
    assert outcome.answer == "1"
    assert outcome.thinking.startswith("xxx")
    again = await tts.solve("?", **Replay(read_trace(trace)[0]).options())
    assert (again.answer, again.usage.generated) == (outcome.answer, outcome.usage.generated)


async def test_first_finish_counts_thinking() -> None:
    def race(path: str, seed: int) -> str:
        if path:
            return "ok \\boxed{1}"
        return "<think>" + ("x" * 300 if seed % 4096 == 0 else "xxxxx</think>\n\nThe answer is \\boxed{2}")

    sampling = tts.Sampling(max_tokens=300, thinking_tokens=100)
    outcome = await tts.solve(
        "?", strategy=tts.strategy("first_finish", n=2), generator=ScriptedGenerator(race), sampling=sampling
    )
    assert outcome.answer == "2"


async def test_what_is_consumed_does_not_hang_on_timing() -> None:
    seen = set()
    for schedule in (at_once, shuffled(1), shuffled(2), shuffled(3)):
        outcome = await tts.solve(
            "?", strategy=tts.strategy("self_consistency", n=12, stopping="beta"),
            generator=ScriptedGenerator(thinks, schedule), sampling=tts.Sampling(max_tokens=120, thinking_tokens=20),
        )  # fmt: skip
        assert outcome.graph is not None
        seen.add(tuple((node.key, node.text) for node in outcome.graph.consumed()))
    assert len(seen) == 1


async def test_no_request_goes_beyond_the_context() -> None:
    class Checked(ScriptedGenerator):
        async def generate(self, request: GenerationRequest, sink: Sink) -> None:
            assert len(request.prompt.token_ids) + len(request.token_ids) + request.max_tokens <= 103
            await super().generate(request, sink)

    def endless(path: str, seed: int) -> str:
        return "y" * 200 if "</think>" in path else "<think>" + "x" * 500

    await tts.solve(
        "q?", strategy="self_consistency", generator=Checked(endless, able=replace(GENERATES, context=103)),
        sampling=tts.Sampling(max_tokens=100, thinking_tokens=95),
    )  # fmt: skip


@pytest.mark.parametrize("limit", [{"dollars": 2.2}, {"flops": 700}, {"samples": 1}, {"tokens": 100}])
async def test_going_on_is_within_the_budget(limit: dict[str, float]) -> None:
    able = replace(GENERATES, dollars_per_token=0.001, dollars_per_prompt_token=0.01, flops_per_token=2.0)
    outcome = await tts.solve(
        "q" * 40, strategy=tts.strategy("self_consistency", n=4), generator=ScriptedGenerator(thinks, able=able),
        sampling=tts.Sampling(max_tokens=80, thinking_tokens=20), budget=tts.Budget.model_validate(limit),
    )  # fmt: skip
    spent = {"tokens": outcome.usage.generated, **outcome.usage.model_dump()}
    for name, most in limit.items():
        assert spent[name] <= most


async def test_a_text_that_is_not_thinking_is_not_cut_into_steps() -> None:
    verifier = ScriptedVerifier()
    await tts.solve(
        "?", strategy=tts.strategy("best_of_n", n=1), verifier=verifier, sampling=CAPPED,
        generator=ScriptedGenerator(lambda path, seed: "one long step without any end\n\n\\boxed{1}"[len(path) :]),
    )  # fmt: skip
    assert [path.steps for path in verifier.seen] == [("one long step without any end\n\n", "\\boxed{1}")]


async def test_an_engine_that_stops_early_is_not_taken_to_be_thinking() -> None:
    class Short(ScriptedGenerator):
        def _completion(self, request: GenerationRequest, seed: int) -> Completion:
            whole = super()._completion(request, seed)
            assert whole.token_ids is not None
            return Completion(whole.text[:30], Finish.LENGTH, 30, whole.token_ids[:30])

    generator = Short(lambda path, seed: "z" * 200, able=replace(GENERATES, logprobs=False))
    outcome = await tts.solve(
        "?", strategy=tts.strategy("self_consistency", n=1), generator=generator, sampling=tts.Sampling(max_tokens=100)
    )
    assert len(generator.calls) == 1
    assert outcome.answer is None and outcome.graph is not None
    assert [node.status for node in outcome.graph][1:] == ["truncated"]
