"""A task measured from its problems to its figures."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tts.__about__ import __version__
from tts.benchmarks.testbed.calibration import Calibration, calibrate
from tts.benchmarks.testbed.pools import Bench, as_labelled, draw_pools
from tts.benchmarks.testbed.prefixes import fresh_outcomes, pool_outcomes
from tts.benchmarks.testbed.settings import Settings
from tts.benchmarks.testbed.summary import Summary, summarise
from tts.errors import NeedsError, ParameterError
from tts.setup import prepare
from tts.types import Frozen, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tts.benchmarks.testbed.pools import Pool
    from tts.protocols import Generator, Verifier
    from tts.setup import Setup
    from tts.tasks import Item, Task

    Note = Callable[[str], None]


class TaskFigures(Frozen):
    """What was measured on one task."""

    task: str
    total: Summary
    bands: dict[str, Summary] = Field(description="the same by class of difficulty, where there are several")
    calibration: Calibration | None = Field(description="against fresh completions of some prefixes")
    left_out: int = Field(description="prefixes whose text does not read back as the tokens that were sampled")
    calibration_in_pool: Calibration | None = Field(description="against whether the part's own sample was right")


class Figures(Frozen):
    """Everything that was measured, and what it depends on; the same for the same settings and models."""

    format: int = 1
    settings: Settings
    fingerprint: dict[str, Any]
    tasks: tuple[TaskFigures, ...]


async def measure(
    tasks: Sequence[Task], generator: Generator | str, verifier: Verifier | str, settings: Settings, note: Note
) -> Figures:
    """Measure a policy and a process reward model on some tasks.

    Args:
        tasks: Each can label steps.
        generator: The policy, or its name.
        verifier: The process reward model, or its name.
        settings: How much is drawn, and the seed.
        note: Told in a line what is done next.

    Raises:
        UsageError: A task, generator or verifier cannot do what is needed.
        BackendError: The generator failed for good.
        VerifierError: The verifier failed for good.
    """
    labelled = [as_labelled(task) for task in tasks]
    # Beam search, because it needs of the two what is needed here: paths that are continued, and scores of them.
    setup = await prepare(
        {"strategy": "beam", "generator": generator, "verifier": verifier, "sampling": _sampling(settings)}
    )
    try:
        _check(setup)
        found = [await _measure(Bench(task, setup, settings), note) for task in labelled]
    finally:
        await setup.aclose()
    return Figures(settings=settings, fingerprint=_fingerprint(setup), tasks=tuple(found))


def _sampling(settings: Settings) -> Sampling:
    return Sampling(temperature=settings.temperature)


def _check(setup: Setup) -> None:
    able = setup.verifier.capabilities if setup.verifier else None
    if able is None or not able.steps:
        name = able.name if able else "nothing"
        raise NeedsError(f"the testbed needs one score a step, which {name} does not give: use a process reward model")


def _fingerprint(setup: Setup) -> dict[str, Any]:
    judge = setup.verifier.capabilities if setup.verifier else None
    return {
        "tts": __version__,
        "generator": {"name": setup.generator.capabilities.name, **setup.generator.capabilities.fingerprint},
        "verifier": None if judge is None else {"name": judge.name, **judge.fingerprint},
        "sampling": setup.sampling.model_dump(mode="json"),
    }


async def _measure(bench: Bench, note: Note) -> TaskFigures:
    settings, name = bench.settings, bench.task.name
    items = items_of(bench)
    note(f"{name}: {settings.samples} samples of each of {len(items)} problems")
    pools = await draw_pools(bench, items)
    calibration, left_out = None, 0
    if settings.prefixes:
        note(f"{name}: {settings.completions} completions of each of up to {settings.prefixes} prefixes")
        outcomes, left_out = await fresh_outcomes(bench, pools)
        calibration = calibrate(outcomes, settings.seed)
    return TaskFigures(
        task=name,
        total=summarise(pools),
        bands={band: summarise(some) for band, some in in_bands(pools).items()},
        calibration=calibration,
        left_out=left_out,
        calibration_in_pool=calibrate(pool_outcomes(pools), settings.seed),
    )


def items_of(bench: Bench) -> Sequence[Item]:
    """Return the problems that are asked.

    Raises:
        ParameterError: There are none.
    """
    settings = bench.settings
    items = bench.task.items(settings.skip + settings.problems)[settings.skip :]
    if not items:
        raise ParameterError(f"task {bench.task.name} has no problems after the first {settings.skip}")
    return items


def in_bands(pools: Sequence[Pool]) -> dict[str, list[Pool]]:
    """Group pools by the band of their problem, the easiest first; nothing where there are not two bands."""
    groups: dict[str, list[Pool]] = {}
    for pool in pools:
        if pool.item.band is not None:
            groups.setdefault(pool.item.band, []).append(pool)
    if len(groups) < 2:
        return {}
    return {name: groups[name] for name in sorted(groups, key=lambda name: (_difficulty(groups[name]), name))}


def _difficulty(pools: Sequence[Pool]) -> float:
    return fmean(pool.item.difficulty or 0.0 for pool in pools)
