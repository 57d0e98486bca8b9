"""Law 2: what was sampled, read and scored is charged once, and the events sum to the outcome."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tts.errors import TransientError
from tts.fakes import GENERATES, shuffled
from tts.graph import Origin, Status
from tts.laws.bench import halting_script
from tts.laws.budget import nothing_held
from tts.laws.trials import Conditions, Trial, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from tts.laws.bench import Bench
    from tts.protocols import PathScore


async def check(bench: Bench) -> None:
    """Each in every trial: short of budget, out of order, with faults, with empty steps, with an engine seen dimly."""
    for row in await bench.matrix():
        for trial in row:
            charged_once(trial)
    dim = replace(GENERATES, exact_cancellation=False)
    for conditions in (
        Conditions(script=halting_script, schedule=shuffled(2)),
        Conditions(faults=fault_at(0, 2, 3), schedule=shuffled(2)),
        Conditions(able=dim, report_every=50, faults=fault_at(0, 2, 3), schedule=shuffled(2)),
        Conditions(spoil=busy_at(1, 3), schedule=shuffled(2)),
        Conditions(able=dim, report_every=50, schedule=shuffled(1)),
    ):
        charged_once(await bench.run(conditions))


def fault_at(*calls: int) -> Callable[[int], Exception | None]:
    """Return faults that may pass, at these calls to the generator."""
    return lambda call: TransientError("busy") if call in calls else None


def busy_at(*calls: int) -> Callable[[list[PathScore]], list[PathScore]]:
    """Return a verifier's faults that may pass, at these of its calls, counted from 1."""
    made: list[int] = []

    def spoil(replies: list[PathScore]) -> list[PathScore]:
        made.append(len(replies))
        if len(made) in calls:
            raise TransientError("busy")
        return replies

    return spoil


def charged_once(trial: Trial) -> None:
    """Compare what the backends did with what the outcome, the ledger and the events say."""
    assert trial.outcome is not None
    usage, generator, verifier = trial.outcome.usage, trial.generator, trial.verifier
    exact = trial.conditions.able.exact_cancellation
    unseen = generator.sampled - usage.generated
    require(2, 0 <= unseen <= usage.unobserved, "tokens sampled and not charged", unseen=unseen, usage=usage)
    require(2, not exact or usage.unobserved == 0, "unobserved tokens of an exact engine", usage=usage)
    events = trial.total("node", "tokens") + trial.total("failed", "tokens")
    require(2, events == usage.generated, "events do not sum to the outcome", events=events, usage=usage)
    asked = sum(request.count for request in generator.calls) - _continued(trial)
    require(2, asked == usage.samples, "samples asked for and not charged", asked=asked, charged=usage.samples)
    prompts = usage.prompt_cached + usage.prompt_computed
    require(2, prompts == generator.prompts, "prompt tokens", computed=generator.prompts, charged=prompts)
    require(2, prompts == trial.total("prompt", "cached") + trial.total("prompt", "computed"), "prompts in events")
    seen = len(verifier.seen) if verifier is not None else 0
    require(2, seen == usage.verifier_calls, "verifier calls", made=seen, charged=usage.verifier_calls)
    require(2, trial.total("verified", "calls") == usage.verifier_calls, "verifier calls in events", usage=usage)
    require(2, trial.total("verified", "tokens") == usage.verifier_tokens, "verifier tokens in events", usage=usage)
    _branches(trial)
    _rates(trial)
    nothing_held(trial, 2)


def _continued(trial: Trial) -> int:
    """Count the children that were asked for a second time to go on after their thinking: the same samples."""
    assert trial.outcome is not None
    nodes = trial.outcome.graph or ()
    return sum(node.origin is Origin.SAMPLED and node.drawn_from is not node.parent for node in nodes)


def _branches(trial: Trial) -> None:
    assert trial.outcome is not None
    usage = trial.outcome.usage
    for name, status in (("cancelled", Status.CANCELLED), ("discarded", Status.DISCARDED)):
        tokens = trial.of_status(status)
        require(2, tokens == getattr(usage, name), f"{name} tokens in events", events=tokens, usage=usage)
    failed = trial.total("failed", "tokens")
    require(2, failed == usage.failed, "failed tokens in events", events=failed, usage=usage)
    lost = usage.pruned + usage.cancelled + usage.discarded + usage.failed
    require(2, lost <= usage.generated, "more lost than sampled", lost=lost, usage=usage)


def _rates(trial: Trial) -> None:
    assert trial.outcome is not None
    usage, able, judge = trial.outcome.usage, trial.conditions.able, trial.conditions.judge
    if judge is None or usage.flops is None or usage.dollars is None:
        return
    flops = (able.flops_per_token or 0) * (usage.generated + usage.prompt_computed)
    flops += (judge.flops_per_token or 0) * usage.verifier_tokens
    require(2, math.isclose(flops, usage.flops), "operations", reckoned=flops, charged=usage.flops)
    dollars = (able.dollars_per_token or 0) * usage.generated + able.dollars_per_prompt_token * usage.prompt_computed
    dollars += (judge.dollars_per_token or 0) * usage.verifier_tokens
    require(2, math.isclose(dollars, usage.dollars, rel_tol=1e-6), "dollars", reckoned=dollars, charged=usage.dollars)
