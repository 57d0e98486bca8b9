"""The scripted fakes, and the clock that moves by sleeping."""

from __future__ import annotations

import anyio
import pytest

import tts
from tts.fakes import FakeClock, ScriptedGenerator, cut, letters, paced, shuffled, tree_script
from tts.types import Finish, Sampling


async def test_time_moves_to_the_sleeper_who_is_due_next() -> None:
    clock, woken = FakeClock(), []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.now()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper, "slow", 10.0, 1.0)
        tasks.start_soon(sleeper, "fast", 3.0, 4.0, 5.0)
    assert woken == [("fast", 3), ("fast", 7), ("slow", 10), ("slow", 11), ("fast", 12)]
    assert sorted(clock.sleeps) == [1, 3, 4, 5, 10]


async def test_time_waits_for_what_runs() -> None:
    clock = FakeClock(patience=10)
    worked: list[float] = []

    async def work() -> None:
        for _ in range(50):
            await clock.sleep(0)
            worked.append(clock.now())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 5.0)
        tasks.start_soon(work)
    assert worked == [0.0] * 50
    assert clock.now() == 5


async def test_a_cancelled_sleeper_holds_nobody_up() -> None:
    clock = FakeClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 1.0)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    await clock.sleep(5.0)
    assert clock.now() == 5


async def test_sleepers_due_together_wake_together() -> None:
    clock = FakeClock()
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(clock.sleep, 2.5)
    assert clock.now() == 2.5


@pytest.mark.parametrize("depth", [1, 3])
def test_a_script_goes_on_where_it_was_cut(depth: int) -> None:
    say = tree_script(depth=depth)
    for seed in range(20):
        whole = say("", seed)
        path = ""
        while "boxed" not in path:
            step, _, _ = say(path, seed).partition("\n\n")
            path += step if "boxed" in step else step + "\n\n"
            assert whole.startswith(path)
        assert path == whole
        assert 1 <= whole.count("\n\n") <= depth


def test_scripts_say_different_things() -> None:
    say = tree_script(answers=3)
    assert {say("", seed)[-2] for seed in range(40)} == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\n\ntwo", ("one\n\n", Finish.DELIMITER)),
        ("one STOP two\n\n", ("one STOP", Finish.STOP)),
        ("one", ("one", Finish.EOS)),
        ("", ("", Finish.EOS)),
    ],
)
def test_text_is_cut_behind_the_first_mark(text: str, expected: tuple[str, Finish]) -> None:
    assert cut(text, ("\n\n",), ("STOP",)) == expected


async def test_the_pace_is_the_clocks() -> None:
    clock = FakeClock()
    generator = ScriptedGenerator(lambda path, seed: "1234", paced(clock, 2.0))
    outcome = await tts.solve("What?", generator=generator, clock=clock, strategy=tts.strategy("self_consistency", n=3))
    assert outcome.usage.seconds == 10, "four letters and the end of sequence, side by side"


async def test_it_counts_what_it_samples_whatever_becomes_of_it() -> None:
    generator = ScriptedGenerator(tree_script(), shuffled(2))
    outcome = await tts.solve("What?", generator=generator, sampling=Sampling(max_tokens=20))
    assert generator.sampled == outcome.usage.generated
    assert generator.running == 0
    assert list(letters("ab")) == [97, 98]
