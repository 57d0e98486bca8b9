"""The engine's thread: cancellation, crashes, several event loops, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tts.backends.embedded import EmbeddedGenerator, batch, sampling
from tts.backends.embedded.batch import Batch
from tts.backends.worker import Mailbox
from tts.errors import EngineDeadError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.backends.embedded.conftest import Recorder
    from tts.protocols import GenerationRequest

    Requests = Callable[..., GenerationRequest]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each step drew."""
    counts: list[int] = []
    draw = sampling.draw

    def counted(logits: Any, draws: Any) -> Any:
        counts.append(len(draws))
        return draw(logits, draws)

    monkeypatch.setattr(batch, "draw", counted)
    return counts


def watch_batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Every batch that is made from now on."""
    made: list[Batch] = []
    begin = Batch.__init__

    def noted(self: Batch, *given: Any) -> None:
        begin(self, *given)
        made.append(self)

    monkeypatch.setattr(Batch, "__init__", noted)
    return made


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("embedded/")]


async def cancel_at(tokens: int, generator: EmbeddedGenerator, request: GenerationRequest, sink: Recorder) -> None:
    """Cancel a request as soon as its first child is known to have so many tokens."""
    with anyio.CancelScope() as scope:
        progress = sink.progress

        def watch(index: int, count: int) -> None:
            progress(index, count)
            if count >= tokens:
                scope.cancel()

        sink.progress = watch  # type: ignore[method-assign, assignment]
        await generator.generate(request, sink)
    assert scope.cancelled_caught


async def test_a_cancelled_request_has_told_every_token(
    policy: Path, recorder: type[Recorder], request_of: Requests, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """G6: of those that were delivered and those that were not, and its rows are free."""
    made = watch_batches(monkeypatch)
    generator = EmbeddedGenerator(policy, rows=4)
    sink = recorder()
    await cancel_at(4, generator, request_of(count=4096, cancellable=True), sink)
    assert len(sink.finished) + len(sink.told) > 0
    assert sink.sampled == sum(drawn) > 4
    assert made[0].live == []
    await generator.aclose()


async def test_others_go_on_when_a_request_is_cancelled(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    expected, stayed, left = recorder(), recorder(), recorder()
    stays = request_of(seed=0, count=20)
    await generator.generate(stays, expected)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_at, 3, generator, request_of(cancellable=True, count=4096), left)
        tasks.start_soon(generator.generate, stays, stayed)
    assert stayed.words() == expected.words()


async def test_a_request_cancelled_before_it_begins_costs_nothing(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = recorder()
    gate = threading.Event()
    worker = generator._worker
    admit, withdraw = worker._admit, worker._withdraw

    def withdraw_first(job: Any) -> None:
        withdraw(job)
        gate.set()

    monkeypatch.setattr(worker, "_admit", lambda: gate.wait(10) and admit())
    monkeypatch.setattr(worker, "_withdraw", withdraw_first)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generator.generate, request_of(), sink)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert (sink.read, sink.finished, sink.told) == (None, {}, {})


async def test_only_who_may_cancel_hears_of_progress(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    quiet, told = recorder(), recorder()
    await generator.generate(request_of(), quiet)
    await generator.generate(request_of(cancellable=True), told)
    assert not quiet.told
    assert told.told
    assert all(told.told[index] <= told.finished[index].tokens for index in told.told)


async def test_a_sink_that_raises_ends_its_request_alone(
    policy: Path, recorder: type[Recorder], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = watch_batches(monkeypatch)
    generator = EmbeddedGenerator(policy)
    sink, after = recorder(), recorder()

    def refuse(index: int, tokens: int) -> None:
        raise ValueError(f"{index} {tokens}")

    sink.progress = refuse  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"\d \d"):
        await generator.generate(request_of(cancellable=True), sink)
    await generator.generate(request_of(), after)
    assert len(after.finished) == 5
    assert made[0].live == []


async def test_a_crash_reaches_all_who_wait_and_all_who_come(
    generator: EmbeddedGenerator,
    recorder: type[Recorder],
    request_of: Requests,
    drawn: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G7: what was delivered stays delivered, and what was sampled is told."""
    step = Batch.step

    def crash(self: Batch) -> Any:
        if len(drawn) > 12:
            raise MemoryError("no more")
        return step(self)

    monkeypatch.setattr(Batch, "step", crash)
    sinks = [recorder() for _ in range(3)]
    errors = []

    async def expect_crash(sink: Recorder, seed: int) -> None:
        with pytest.raises(EngineDeadError, match="embedded/policy failed: MemoryError: no more") as caught:
            await generator.generate(request_of(count=20, seed=seed), sink)
        errors.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for place, sink in enumerate(sinks):
            tasks.start_soon(expect_crash, sink, 4096 * place)
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error.__cause__, MemoryError) for error in errors)
    assert sum(sink.sampled for sink in sinks) == sum(drawn)
    with pytest.raises(EngineDeadError, match="no more"):
        await generator.generate(request_of(), recorder())


async def test_closing_fails_what_runs_and_ends_the_thread(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    sink = recorder()
    begun = anyio.Event()
    sink.progress = lambda index, tokens: begun.set()  # type: ignore[method-assign]

    async def expect_closing() -> None:
        with pytest.raises(EngineDeadError, match="embedded/policy was closed"):
            await generator.generate(request_of(count=4096, cancellable=True, max_tokens=130), sink)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(expect_closing)
        await begun.wait()
        await generator.aclose()
        assert not engine_threads()
    with pytest.raises(EngineDeadError, match="was closed"):
        await generator.generate(request_of(), recorder())


async def test_an_idle_engine_has_no_thread(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    for _ in range(3):
        await generator.generate(request_of(), recorder())
    await generator.aclose()
    assert not engine_threads()


async def test_steps_run_off_the_event_loop_and_sinks_on_it(
    policy: Path, recorder: type[Recorder], request_of: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, calls = set(), set()
    step = Batch.step

    def noted(self: Batch) -> Any:
        steps.add(threading.get_ident())
        return step(self)

    monkeypatch.setattr(Batch, "step", noted)
    sink = recorder()
    sink.prompt = lambda **_: calls.add(threading.get_ident())  # type: ignore[method-assign]
    sink.progress = lambda *_: calls.add(threading.get_ident())  # type: ignore[method-assign]
    sink.finish = lambda *_: calls.add(threading.get_ident())  # type: ignore[method-assign]
    await EmbeddedGenerator(policy).generate(request_of(cancellable=True), sink)
    assert calls == {threading.get_ident()}
    assert len(steps) == 1
    assert not steps & calls


def test_one_generator_serves_event_loops_one_after_another(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    sinks = [recorder() for _ in range(4)]
    for sink, backend in zip(sinks, ["asyncio", "trio"] * 2, strict=True):
        anyio.run(generator.generate, request_of(), sink, backend=backend)
    assert sinks[0].words() == sinks[1].words() == sinks[2].words() == sinks[3].words()


def test_one_generator_serves_event_loops_at_the_same_time(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    expected = [recorder() for _ in range(4)]
    for place, sink in enumerate(expected):
        anyio.run(generator.generate, request_of(seed=4096 * place, count=20), sink)
    sinks = [recorder() for _ in range(4)]
    together = threading.Barrier(4)

    def run(place: int) -> None:
        together.wait()
        request = request_of(seed=4096 * place, count=20)
        anyio.run(generator.generate, request, sinks[place], backend=["asyncio", "trio"][place % 2])

    threads = [threading.Thread(target=partial(run, place)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sink.words() for sink in sinks] == [sink.words() for sink in expected]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_mailbox_survives_its_event_loop(backend: str) -> None:
    async def make() -> Mailbox:
        return Mailbox()

    mailbox = anyio.run(make, backend=backend)
    mailbox.put(lambda: None)
    assert mailbox.abandoned


async def test_a_job_whose_event_loop_ended_leaves_the_batch(
    policy: Path, recorder: type[Recorder], request_of: Requests, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = watch_batches(monkeypatch)
    generator = EmbeddedGenerator(policy, rows=2)
    begun = anyio.Event()
    sink = recorder()
    sink.prompt = lambda **_: begun.set()  # type: ignore[method-assign]
    wake = Mailbox._wake

    def ended(*_: object) -> None:
        raise RuntimeError("the event loop is closed")

    def cut_off(mailbox: Mailbox) -> None:
        if made[0].live and len(made[0].live[0].tokens) > 5:
            mailbox._post = ended
        wake(mailbox)

    monkeypatch.setattr(Mailbox, "_wake", cut_off)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generator.generate, request_of(count=4096, max_tokens=136, cancellable=True), sink)
        await begun.wait()
        thread = generator._worker._thread
        assert thread is not None
        await anyio.to_thread.run_sync(thread.join)
        assert made[0].live == []
        assert sum(drawn) < 4096  # not every child had even begun
        tasks.cancel_scope.cancel()


def test_importing_loads_no_engine() -> None:
    code = (
        "import sys, tts.backends.embedded; sys.exit(bool({'onnxruntime', 'tokenizers', 'jinja2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
