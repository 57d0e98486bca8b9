"""What strategies, generators, scorers and verifiers promise, as checks for the tests of third parties.

Each takes what it checks and raises LawBroken, with the law's or clause's number, what broke it, and the values:

    async def test_my_strategy_keeps_the_laws() -> None:
        await check_strategy(MyStrategy(width=3))

    async def test_my_backend_keeps_its_promises() -> None:
        await check_generator(lambda: MyGenerator("model"), "What is 7 times 8?")
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio

from tts import registry
from tts.laws import LAWS, Bench
from tts.laws.trials import require
from tts.protocols import SEED_BLOCK, GenerationRequest, Path, connect
from tts.setup import as_problem
from tts.types import Completion, Finish, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tts.protocols import Generator, PathScore, Scorer, Strategy, Verifier
    from tts.types import Prompt

STEPS = ("7 times 8 is 7 times 7 plus 7.\n\n", "That is 49 plus 7.\n\n", "The answer is \\boxed{56}")
DRAWN = Sampling(temperature=1.0)
CLOSE = 1e-4
"""How far probabilities computed beside different others may lie apart."""


async def check_strategy(strategy: str | Strategy, *, laws: Iterable[int] = tuple(LAWS)) -> None:
    """Run a strategy on scripted backends, short of every budget, out of order, with faults and cancelled.

    Args:
        strategy: A registered name, or a strategy with its parameters; small numbers make this quick.
        laws: Which laws, by number.

    Raises:
        LawBroken: It broke one.
    """
    bench = Bench(registry.strategy(strategy))
    for law in laws:
        await LAWS[law](bench)


class Received:
    """A sink that notes everything, and what should not have come."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.completions: dict[int, Completion] = {}
        self.seen = [0] * count
        self.prompts = 0
        self.reports = 0
        self.unexpected: list[str] = []
        self.changed = anyio.Event()

    def prompt(self, *, cached: int, computed: int) -> None:
        """Count."""
        self.prompts += cached + computed

    def progress(self, index: int, tokens: int) -> None:
        """Note how far a child is."""
        self._note(index)
        if 0 <= index < self.count:
            self.seen[index] = max(self.seen[index], tokens)

    def finish(self, index: int, completion: Completion) -> None:
        """Keep a child."""
        self._note(index)
        if index in self.completions:
            self.unexpected.append(f"child {index} a second time")
        self.completions[index] = completion

    def _note(self, index: int) -> None:
        self.reports += 1
        self.changed.set()
        if not 0 <= index < self.count:
            self.unexpected.append(f"child {index} of {self.count}")


async def check_generator(
    make: Callable[[], Generator], question: str = "What is 7 times 8?", *, max_tokens: int = 32
) -> None:
    """Check clauses G1 to G6 and G8 of `Generator` on a live engine; G7 needs faults, which its own tests must make.

    Args:
        make: Makes the generator; it is closed at the end.
        question: Something that it can be asked.
        max_tokens: Tokens of a path in these checks; a few steps should fit.

    Raises:
        LawBroken: It broke a clause.
    """
    generator = make()
    try:
        await connect(generator)
        prompt = await generator.encode(as_problem(question).messages)
        engine = _Engine(generator, prompt, max_tokens)
        for cap in (1, 3, max_tokens):
            await engine.draw(count=3, cap=cap)
        await engine.alone_and_beside_others()
        await engine.continued()
        await engine.cancelled()
    finally:
        await generator.aclose()


class _Engine:
    """A generator under examination."""

    def __init__(self, generator: Generator, prompt: Prompt, max_tokens: int) -> None:
        self.generator = generator
        self.able = generator.capabilities
        self.prompt = prompt
        self.max_tokens = max_tokens

    async def draw(
        self, *, count: int = 1, cap: int, place: int = 0, path: Sequence[Completion] = (), sampling: Sampling = DRAWN
    ) -> list[Completion]:
        """Draw the next step of a path, and check all that can be seen in it."""
        request = self._request(count, cap, place, path, sampling)
        received = Received(count)
        await self.generator.generate(request, received)
        require("G1", not received.unexpected, "delivered what was not awaited", children=received.unexpected)
        places = sorted(received.completions)
        require("G1", places == list(range(count)), "not one completion a child", asked=count, came=places)
        for completion in received.completions.values():
            self._check(completion, request)
        return [received.completions[index] for index in range(count)]

    def _request(
        self, count: int, cap: int, place: int, path: Sequence[Completion], sampling: Sampling
    ) -> GenerationRequest:
        ids = [token for step in path for token in step.token_ids or ()] if self.able.token_ids else []
        return GenerationRequest(
            prompt=self.prompt, text="".join(step.text for step in path), token_ids=ids, count=count,
            seed=7 * SEED_BLOCK + place, max_tokens=cap, delimiters=sampling.delimiters, sampling=sampling,
            logprobs=self.able.logprobs, cancellable=True,
        )  # fmt: skip

    def _check(self, completion: Completion, request: GenerationRequest) -> None:
        tokens, cap, finish = completion.tokens, request.max_tokens, completion.finish
        marks = {Finish.DELIMITER: request.delimiters, Finish.STOP: request.sampling.stops}.get(finish)
        if marks is not None:
            require("G2", completion.text.endswith(marks), f"a {finish} is no part of the text", text=completion.text)
        require("G4", 0 <= tokens <= cap, "tokens above the cap", tokens=tokens, cap=cap)
        require("G3", finish is not Finish.LENGTH or tokens == cap, "LENGTH before the cap", tokens=tokens, cap=cap)
        require("G4", finish is not Finish.EOS or tokens > 0, "the end of sequence is not counted", tokens=tokens)
        for name, able in (("token_ids", self.able.token_ids), ("logprobs", self.able.logprobs)):
            given = getattr(completion, name)
            if able:
                length = None if given is None else len(given)
                require("G8", length == tokens, f"not one of {name} a token", tokens=tokens, given=length)
        certain = all(value <= 1e-6 for value in completion.logprobs or ())
        require("G8", certain, "a log-probability above zero", logprobs=completion.logprobs)

    async def alone_and_beside_others(self) -> None:
        """Check that a child depends on its own seed only."""
        if not self.able.seeds:
            return
        together = await self.draw(count=4, cap=self.max_tokens)
        alone: dict[int, Completion] = {}

        async def draw(place: int) -> None:
            alone[place] = (await self.draw(cap=self.max_tokens, place=place))[0]

        async with anyio.create_task_group() as tasks:
            for place in range(4):
                tasks.start_soon(draw, place)
        for place, completion in enumerate(together):
            same = _said(completion) == _said(alone[place])
            require("G5", same, "hangs on what runs beside it", beside=completion, alone=alone[place])

    async def continued(self) -> None:
        """Check that steps drawn one by one, without chance, are the path drawn at once."""
        if not (self.able.continuation and self.able.seeds):
            return
        greedy = Sampling(temperature=0.0)
        whole = (await self.draw(cap=self.max_tokens, sampling=greedy.model_copy(update={"delimiters": ()})))[0]
        path: list[Completion] = []
        left = self.max_tokens
        while left and (not path or path[-1].finish is Finish.DELIMITER):
            path += await self.draw(cap=left, path=path, sampling=greedy)
            left -= path[-1].tokens
        joined = "".join(step.text for step in path)
        require("G2", joined == whole.text, "steps do not join to the path", joined=joined, whole=whole.text)

    async def cancelled(self) -> None:
        """Check that nothing comes after a cancellation, and that the engine goes on working."""
        received = Received(4)
        request = self._request(4, self.max_tokens, 0, (), DRAWN)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.generator.generate, request, received)
            await received.changed.wait()
            tasks.cancel_scope.cancel()
        reports = received.reports
        first = await self.draw(count=2, cap=self.max_tokens)
        require("G6", received.reports == reports, "reports went on after the cancellation", more=received.reports)
        again = await self.draw(count=2, cap=self.max_tokens)
        same = not self.able.seeds or [_said(c) for c in first] == [_said(c) for c in again]
        require("G6", same, "what runs after a cancellation hangs on it", first=first, again=again)


def _said(completion: Completion) -> tuple[str, Finish, int]:
    return completion.text, completion.finish, completion.tokens


async def check_scorer(
    make: Callable[[], Scorer],
    question: str = "What is 7 times 8?",
    texts: Sequence[str] = STEPS,
    *,
    labels: Sequence[int] | None = None,
) -> None:
    """Check clauses S1 and S2 of `Scorer`.

    Args:
        make: Makes the scorer; it is closed at the end.
        question: Something that it can read.
        texts: Steps that it can read after the question.
        labels: Token ids to ask about, for a language model.

    Raises:
        LawBroken: It broke a clause.
    """
    scorer = make()
    try:
        await connect(scorer)
        start = list(await scorer.encode(as_problem(question).messages))
        sequences, positions = [], []
        for count in range(1, len(texts) + 1):
            sequences.append(start + [token for text in texts[:count] for token in await scorer.tokenize(text)])
            positions.append([len(start) - 1, len(sequences[-1]) - 1])
        together = await scorer.probabilities(sequences, positions, labels=labels)
        wide = scorer.capabilities.classes if labels is None else len(labels)
        _check_rows(together, positions, wide)
        for sequence, places, rows in zip(sequences, positions, together, strict=True):
            alone = (await scorer.probabilities([sequence], [places], labels=labels))[0]
            require("S2", _alike(rows, alone), "hangs on what is scored beside it", beside=rows, alone=alone)
    finally:
        await scorer.aclose()


def _check_rows(replies: Sequence[Sequence[Sequence[float]]], positions: Sequence[Sequence[int]], wide: int) -> None:
    shape = [len(rows) for rows in replies]
    require("S1", shape == [len(places) for places in positions], "not one row a position", rows=shape)
    for row in (row for rows in replies for row in rows):
        require("S1", len(row) == wide, "not one probability a class", classes=wide, row=row)
        fair = all(0 <= value <= 1 for value in row) and math.isclose(math.fsum(row), 1, abs_tol=1e-3)
        require("S1", fair or wide == 1, "no probability vector", row=row)


def _alike(rows: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> bool:
    pairs = [pair for row, other in zip(rows, others, strict=True) for pair in zip(row, other, strict=True)]
    return all(abs(one - two) <= CLOSE for one, two in pairs)


async def check_verifier(
    make: Callable[[], Verifier], question: str = "What is 7 times 8?", steps: Sequence[str] = STEPS
) -> None:
    """Check clauses V1 to V4 of `Verifier`; V5 needs faults, which only its own tests can make.

    Args:
        make: Makes the verifier; it is closed at the end.
        question: Something that it can read.
        steps: A finished path's steps.

    Raises:
        LawBroken: It broke a clause.
    """
    verifier = make()
    try:
        await connect(verifier)
        messages = as_problem(question).messages
        paths = [Path(messages, tuple(steps), True), Path(messages, ("".join(steps),), True)]
        if verifier.capabilities.partial:
            paths += [Path(messages, tuple(steps[:count]), False) for count in range(1, len(steps))]
        together = await verifier.score(paths)
        require("V1", len(together) == len(paths), "not one score a path", paths=len(paths), scores=len(together))
        for path, reply in zip(paths, together, strict=True):
            _check_reply(path, reply, verifier.capabilities.steps)
            alone = (await verifier.score([path]))[0]
            same = _alike([reply.values], [alone.values])
            require("V4", same, "hangs on what is scored beside it", beside=reply, alone=alone)
        _check_prefixes(together, verifier.capabilities.steps)
    finally:
        await verifier.aclose()


def _check_reply(path: Path, reply: PathScore, stepwise: bool) -> None:
    wanted = len(path.steps) if stepwise else 1
    require("V2", len(reply.values) == wanted, "another number of values", wanted=wanted, values=reply.values)
    sound = all(math.isfinite(value) and 0 <= value <= 1 for value in reply.values)
    require("V3", sound, "a value is no probability", values=reply.values)
    require("V3", reply.tokens >= 0, "tokens below zero", tokens=reply.tokens)


def _check_prefixes(replies: Sequence[PathScore], stepwise: bool) -> None:
    whole = replies[0].values
    for reply in replies[2:] if stepwise else ():
        same = _alike([reply.values], [whole[: len(reply.values)]])
        require("V4", same, "a step's score hangs on later steps", early=reply.values, late=whole)
