"""Solving one problem: the only place where an exhausted budget ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.affinity import on_behalf_of
from tts.boundary import typed_errors
from tts.budget import Ledger
from tts.errors import StrategyError, TTSError
from tts.graph import SearchGraph, ThinkingSplitter, format_key
from tts.groups import Timed
from tts.outcome import Ended, Outcome, candidates_of, fallback_answer, measure, support_of
from tts.run import Run, resolve_caps
from tts.runtime import run_sync
from tts.search import Search
from tts.seeds import derive
from tts.selection import Answer
from tts.setup import ProblemLike, Setup, SolveOptions, as_problem, fingerprint, prepare, reader_for, render
from tts.trace import header
from tts.types import Usage

if TYPE_CHECKING:
    from typing import Unpack

    from tts.types import Problem, Prompt


def problem_seed(seed: int, problem: Problem) -> int:
    """Return the seed of one problem of a run: other problems draw otherwise."""
    return derive(seed, problem.id, problem.question)


async def solve_prepared(setup: Setup, given: ProblemLike) -> tuple[Outcome, TTSError | None]:
    """Search one problem; a backend's or verifier's error comes beside an outcome that keeps what was done.

    Raises:
        UsageError: The problem cannot be asked; nothing was spent.
        BackendError: The generator could not read it; nothing was spent.
    """
    problem = as_problem(given)
    with on_behalf_of(affinity_key(problem)):
        return await _solve(setup, problem)


def affinity_key(problem: Problem) -> str:
    """Return what is the same whenever the same is asked."""
    return f"{derive(*(part for message in problem.messages for part in (message.role, message.content))):016x}"


async def _solve(setup: Setup, problem: Problem) -> tuple[Outcome, TTSError | None]:
    started = setup.clock.now()
    seconds = setup.budget.seconds
    deadline = None if seconds is None else started + seconds
    prompt: Prompt | None = None
    async with Timed(setup.clock, deadline):
        prompt = await render(setup, problem, deadline)
    if prompt is None:
        return _unread(setup, problem, setup.clock.now() - started), None
    caps = resolve_caps(setup.sampling, setup.generator.capabilities, prompt)
    sampling = setup.sampling
    split = ThinkingSplitter(sampling.thinking_open, sampling.thinking_close)
    # The trace comes first, so that it has an event before anyone makes something of it.
    observers = setup.observers if setup.trace is None else (setup.trace.scribe(), *setup.observers)
    run = Run(
        problem=problem, prompt=prompt, generator=setup.generator, verifier=setup.verifier, sampling=sampling,
        caps=caps, seed=problem_seed(setup.seed, problem), clock=setup.clock, limiter=setup.limiter,
        graph=SearchGraph(prompt, reader_for(setup, problem), split), started=started,
        deadline=deadline, logprobs=_wants_logprobs(setup), top_logprobs=_top_logprobs(setup),
        retry=setup.retry, observers=observers,
    )  # fmt: skip
    return await _search(setup, Search(run, run.graph.root, Ledger(setup.budget)))


def _unread(setup: Setup, problem: Problem, seconds: float) -> Outcome:
    """Return the outcome of a problem whose time was up before the generator had read it."""
    return Outcome(
        problem=problem.id, strategy=setup.strategy.name, parameters=setup.strategy.model_dump(mode="json"),
        seed=setup.seed, answer=None, text="", usage=Usage(seconds=seconds), ended=Ended.BUDGET, limit="seconds",
    )  # fmt: skip


def _wants_logprobs(setup: Setup) -> bool:
    able = setup.generator.capabilities
    judged = setup.verifier is not None and setup.verifier.capabilities.logprobs
    wanted = setup.strategy.needs.logprobs or judged or _top_logprobs(setup) > 0
    return able.logprobs and (able.logprobs_free or wanted)


def _top_logprobs(setup: Setup) -> int:
    judged = 0 if setup.verifier is None else setup.verifier.capabilities.top_logprobs
    return max(setup.strategy.needs.top_logprobs, judged)


async def _search(setup: Setup, search: Search) -> tuple[Outcome, TTSError | None]:
    run, error = search.run, None
    if run.observers:
        run.emit("start", **header(run, setup.strategy, setup.budget, setup.seed, fingerprint(setup, run)))
    try:
        with typed_errors(StrategyError, f"strategy {setup.strategy.name}"):
            answer = await setup.strategy.search(search)
            if not isinstance(answer, Answer):
                raise StrategyError(f"strategy {setup.strategy.name} returned {answer!r:.80} instead of an Answer")
    except TTSError as raised:
        answer, error = fallback_answer(run.graph), raised
    outcome = _outcome(setup, search, answer, error)
    if run.observers:
        run.emit("end", outcome=outcome.model_dump(mode="json"))
    return outcome, error


def _outcome(setup: Setup, search: Search, answer: Answer, error: TTSError | None) -> Outcome:
    run, chosen = search.run, answer.chosen
    thinking, text = ("", "") if chosen is None else run.graph.split(chosen)
    value = chosen.answer if chosen is not None and answer.decided else None
    limit = search.exhausted
    ended = Ended.ERROR if error else Ended.BUDGET if limit else Ended.DONE if value is not None else Ended.NO_ANSWER
    return Outcome(
        problem=run.problem.id, strategy=setup.strategy.name, parameters=setup.strategy.model_dump(mode="json"),
        seed=setup.seed, answer=value, text=text, thinking=thinking, candidates=candidates_of(answer),
        chosen=None if chosen is None else format_key(chosen.key),
        usage=measure(search, run.clock.now() - run.started), support=support_of(answer), ended=ended,
        limit=limit, error=None if error is None else f"{type(error).__name__}: {error}",
        fingerprint=fingerprint(setup, run), graph=run.graph,
    )  # fmt: skip


async def solve(problem: ProblemLike, **options: Unpack[SolveOptions]) -> Outcome:
    """Search one problem; see `SolveOptions`.

    Returns:
        The outcome, also when the budget ended the search.

    Raises:
        UsageError: What was asked for cannot be done; nothing was spent.
        BackendError: The generator failed for good; the error's `outcome` keeps what was done.
        VerifierError: Likewise, of the verifier.
    """
    setup = await prepare(options)
    try:
        outcome, error = await solve_prepared(setup, problem)
    finally:
        await setup.aclose()
    if error is not None:
        error.outcome = outcome
        raise error
    return outcome


def solve_sync(problem: ProblemLike, **options: Unpack[SolveOptions]) -> Outcome:
    """Run `solve` from synchronous code, and from notebooks, whose loop runs already."""
    return run_sync(lambda: solve(problem, **options))
