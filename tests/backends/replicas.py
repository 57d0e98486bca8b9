"""Scripted replicas that can be killed, hang, be busy, and come back as something else; and a time that tests move."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from tts.affinity import on_behalf_of
from tts.backends.pool import GeneratorPool
from tts.backends.routing import rendezvous
from tts.capabilities import ScorerCapabilities
from tts.checks import Received
from tts.errors import EngineDeadError, TransientError
from tts.fakes import GENERATES, ScriptedGenerator, tree_script
from tts.protocols import SEED_BLOCK, GenerationRequest
from tts.seeds import derive
from tts.types import Message, Prompt, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.fakes import Schedule
    from tts.protocols import Sink


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Health:
    """The part of an endpoint that pools look at: `state` is "up", "gone", "dead" (the engine) or "hangs"."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.state = "up"
        self.asked = 0

    async def alive(self) -> bool:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        if self.state == "dead":
            raise EngineDeadError(f"{self.url}: its engine is dead")
        return self.state == "up"


async def in_turns(seed: int, tokens: int) -> None:
    """Let others run now and then."""
    if tokens % 16 == 1:
        await anyio.lowlevel.checkpoint()


class Server(ScriptedGenerator):
    """A scripted generator behind a server.

    Attributes:
        fault: What it answers instead.
        served: What its capabilities become when it is asked anew.
        most: Children in flight at once, at most so far.
    """

    def __init__(self, name: str, given: Schedule = in_turns) -> None:
        super().__init__(tree_script(), self._pace, able=replace(GENERATES, fingerprint={"model": "scripted"}))
        self.endpoint = Health(f"http://{name}")
        self.fault: Exception | None = None
        self.served = self.able
        self.most = 0
        self.given = given

    async def reconnect(self) -> None:
        if self.endpoint.state == "gone":
            raise TransientError(f"cannot connect to {self.endpoint.url}", began=False)
        if self.endpoint.state == "hangs":
            await anyio.sleep_forever()
        self.able = self.served

    async def connect(self) -> None:
        await self.reconnect()

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        if self.endpoint.state == "dead":
            raise EngineDeadError(f"{self.endpoint.url}: its engine is dead")
        if self.endpoint.state == "gone":
            raise TransientError(f"cannot connect to {self.endpoint.url}", began=False)
        if self.fault is not None:
            raise self.fault
        self.most = max(self.most, self.running + request.count)
        try:
            await super().generate(request, sink)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _pace(self, seed: int, tokens: int) -> None:
        await self.given(seed, tokens)
        if self.endpoint.state == "hangs":
            await anyio.sleep_forever()
        if self.endpoint.state != "up":
            raise TransientError(f"{self.endpoint.url}: the connection broke", at_once=True)


class Gate:
    """A schedule under which nothing comes before it is opened."""

    def __init__(self) -> None:
        self.opened = anyio.Event()

    async def __call__(self, seed: int, tokens: int) -> None:
        await self.opened.wait()


def request(question: str = "What is it?", count: int = 1, seed: int = 0) -> GenerationRequest:
    text = question + "\n"
    prompt = Prompt((Message(role="user", content=question),), text, tuple(map(ord, text)))
    return GenerationRequest(
        prompt=prompt, text="", token_ids=(), count=count, seed=seed * SEED_BLOCK, max_tokens=120, delimiters=(),
        sampling=Sampling(),
    )  # fmt: skip


async def draw(pool: GeneratorPool, problem: str, count: int = 1) -> Received:
    """Ask on behalf of a problem."""
    received = Received(count)
    with on_behalf_of(problem):
        await pool.generate(request(problem, count), received)
    return received


async def settle(turns: int = 20) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()


class Classifier:
    """A scorer whose word hangs on the ids alone.

    Attributes:
        asked: Sequences of each call.
    """

    def __init__(self, name: str) -> None:
        self.endpoint = Health(f"http://{name}")
        self.asked: list[int] = []
        self.closed = False

    @property
    def capabilities(self) -> ScorerCapabilities:
        return ScorerCapabilities("classifier")

    async def encode(self, messages: Sequence[Message]) -> Sequence[int]:
        return [ord(letter) for message in messages for letter in message.content]

    async def tokenize(self, text: str) -> Sequence[int]:
        return list(map(ord, text))

    async def probabilities(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        *,
        labels: Sequence[int] | None = None,
    ) -> Sequence[Sequence[Sequence[float]]]:
        self.asked.append(len(sequences))
        await anyio.lowlevel.checkpoint()
        if self.endpoint.state != "up":
            raise TransientError(f"cannot connect to {self.endpoint.url}", began=False)
        return [[_row(ids[: place + 1]) for place in places] for ids, places in zip(sequences, positions, strict=True)]

    async def aclose(self) -> None:
        self.closed = True


def _row(ids: Sequence[int]) -> list[float]:
    good = derive("good", *ids) % 1000 / 1000
    return [1 - good, good]


class Fleet:
    """Three replicas as a pool, and the time that it goes by. `home` is that of the problem "hot"."""

    def __init__(self, count: int = 3, **settings: float) -> None:
        self.time = Time()
        servers = {server.endpoint.url: server for server in (Server(f"host-{place}") for place in range(count))}
        self.servers = [servers[url] for url in rendezvous("hot", servers)]
        self.home, self.next = self.servers[0], self.servers[1 % count]
        self.pool = GeneratorPool(list(servers.values()), now=self.time, **settings)  # type: ignore[arg-type]

    def calls(self) -> list[int]:
        return [len(server.calls) for server in self.servers]


async def fleet(count: int = 3, **settings: float) -> Fleet:
    made = Fleet(count, **settings)
    await made.pool.connect()
    return made
