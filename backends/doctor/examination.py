"""What a server can do, measured by asking it: nothing is taken from its address, its version or its flags."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from tts.backends.doctor import draws, engine, scoring, tokens
from tts.backends.doctor.findings import Examination, capabilities_of, found, has, lacks, no, unknown, yes
from tts.backends.doctor.others import examine_other
from tts.backends.doctor.subject import Subject, bounded
from tts.backends.http import Endpoint, Timeouts
from tts.backends.served import RemoteLanguage, Served, ask_served
from tts.backends.vllm_server import VLLMServer
from tts.errors import BackendError, EngineDeadError, TTSError
from tts.types import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tts.backends.doctor.findings import Finding
    from tts.backends.doctor.subject import Draw

QUESTION = "Use 18, 11, 11, 30 to make 34."
"""Has many answers, of some length, so that draws differ."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Something to be measured: what it is called in findings, and how it is asked for."""

    abilities: tuple[str, ...]
    ask: Callable[[Subject], Awaitable[list[Finding]]]


GENERATES = (
    Probe(("context",), draws.ask_context),
    Probe(("token ids",), tokens.ask_token_ids),
    Probe(("prefix continuation", "continuation by text"), tokens.ask_continuation),
    Probe(("log-probabilities", "top log-probabilities"), tokens.ask_logprobs),
    Probe(("log-probabilities of chosen tokens",), tokens.ask_chosen),
    Probe(("seeds",), draws.ask_seeds),
    Probe(("several samples", "seeds of several samples"), draws.ask_several),
    Probe(("stop texts", "stop reasons"), draws.ask_stops),
    Probe(("max_tokens", "refusal of what does not fit"), draws.ask_max_tokens),
    Probe(("streaming",), engine.ask_streaming),
    Probe(("cancellation",), engine.ask_cancellation),
    Probe(("prefix cache", "cached-token counts"), engine.ask_prefix_cache),
    Probe(("batch invariance",), engine.ask_batch_invariance),
    Probe(("refusal of unknown fields",), engine.ask_fields),
    Probe(("priorities",), engine.ask_priorities),
)
"""What is asked of a server that draws, given token ids."""
LEAST_CONTEXT = 16
"""What a server says of fewer tokens is not believed."""
VLLM_CANNOT_DO_WITHOUT = ("token ids", "stop texts", "max_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long an examination may take, in seconds.

    Attributes:
        total: All of it; what has not been asked by then is unknown.
        probe: One measurement.
        patience: For the engine to stop once a client has left.
    """

    total: float = 180.0
    probe: float = 30.0
    patience: float = 10.0


async def examine(
    url: str,
    model: str | None = None,
    *,
    key: str = "TTS_API_KEY",
    question: str | None = None,
    bounds: Bounds | None = None,
    nonce: str | None = None,
) -> Examination:
    """Find out what a server can do, at the cost of about a hundred short requests.

    Args:
        url: Where it is, such as "http://localhost:8000".
        model: The served model's name; None if it serves one only.
        key: Name of the environment variable with the server's key.
        question: What its model is asked, with an answer of a few sentences; None asks what suits most models.
        bounds: How long it may take.
        nonce: Makes prompts that no server has seen; None draws one.

    Raises:
        ParameterError: The URL is none.
        BackendError: It serves no such model, or refuses the key.
        TransientError: There is no server.
    """
    bounds = bounds or Bounds()
    limits = Timeouts(connect=min(10.0, bounds.probe), first=bounds.probe, between=bounds.probe, total=bounds.probe)
    endpoint = Endpoint(url, key=key, timeouts=limits)
    try:
        served = await _served(endpoint, model)
        subject = Subject(
            endpoint, served.model, served.context, [], nonce or secrets.token_hex(8), patience=bounds.patience
        )
        return await _Examiner(subject, served, question, key, bounds).examine()
    finally:
        await endpoint.aclose()


async def _served(endpoint: Endpoint, model: str | None) -> Served:
    try:
        served = await ask_served(endpoint, model)
    except BackendError as error:
        # Some servers do not list their models.
        if model is None or " status 404" not in str(error):
            raise
        return Served(model, model, None)
    believable = isinstance(served.context, int) and served.context >= LEAST_CONTEXT
    return served if believable else replace(served, context=None)


class _Examiner:
    """One examination under way."""

    def __init__(self, subject: Subject, served: Served, question: str | None, key: str, bounds: Bounds) -> None:
        self._subject = subject
        self._served = served
        self._asked = question
        self._question = question or QUESTION
        self._key = key
        self._bounds = bounds
        self._ends = anyio.current_time() + bounds.total

    async def examine(self) -> Examination:
        read = await self._read_question()
        if not has(read, "tokenizer"):
            return await self._other(read)
        draw = await self._draws()
        if draw is not None:
            return await (self._other(read) if draw.ids is None else self._generating(read))
        pooling = await scoring.find_pooling(self._subject)
        return await (self._other(read) if pooling is None else self._pooling(read, pooling))

    async def _read_question(self) -> list[Finding]:
        """Have the server tokenise the question, with its chat template if it has one."""
        language = RemoteLanguage(self._subject.endpoint, None, None)
        await language.connect(self._served.model)
        try:
            self._subject.prompt = list(await language.tokenize(self._question))
            tokenizer = yes("tokenizer", f"the question is {len(self._subject.prompt)} tokens by /tokenize")
        except TTSError as error:
            return [no("tokenizer", f"there is no /tokenize that works: {error}")]
        try:
            _, self._subject.prompt = await language.render([Message(role="user", content=self._question)])
        except TTSError as error:
            return [tokenizer, no("chat template", f"it was not applied: {error}", "--chat-template FILE")]
        if not self._subject.prompt:
            return [no("tokenizer", "the question is no tokens by /tokenize")]
        return [tokenizer, yes("chat template", f"with it the question is {len(self._subject.prompt)} tokens")]

    async def _draws(self) -> Draw | None:
        """Return what it draws from token ids, if it does."""
        try:
            return await self._subject.one(self._subject.prompt)
        except EngineDeadError:
            raise
        except TTSError:
            return None

    async def _generating(self, read: list[Finding]) -> Examination:
        findings = [*read, *await self._all(GENERATES)]
        unfit = await self._unfit(findings)
        if unfit:
            other = await self._other(read)
            return replace(other, findings=findings, unfit=f"{unfit} {other.unfit}".strip())
        return replace(
            await self._summary(findings),
            spec=f"vllm:{self._subject.endpoint.url}",
            capabilities=capabilities_of(f"vllm/{self._served.model}", self._served.context, findings),
        )

    async def _pooling(self, read: list[Finding], pooling: scoring.Pooling) -> Examination:
        asks = {
            ("context",): scoring.ask_pooling_context,
            (pooling.kind,): scoring.ask_positions,
            ("probabilities",): scoring.ask_probabilities,
            ("independent scores",): scoring.ask_independence,
            ("prefix cache",): scoring.ask_pooling_cache,
        }
        probes = [Probe(names, partial(ask, pooling=pooling)) for names, ask in asks.items()]
        findings = [*read, *await self._all(probes)]
        wrong = [name for name in ("probabilities", "independent scores") if lacks(findings, name)]
        return replace(
            await self._summary(findings),
            pooling=True,
            spec=None if wrong else f"vllm:{self._subject.endpoint.url}",
            unfit="; ".join(f"{name}: {found(findings, name).evidence}" for name in wrong),
        )

    async def _other(self, read: list[Finding]) -> Examination:
        left = max(self._ends - anyio.current_time(), 0.0)
        return await examine_other(self._subject, await self._summary(read), self._asked, self._key, left)

    async def _all(self, probes: Sequence[Probe]) -> list[Finding]:
        findings = [one for probe in probes for one in await self._ask(probe)]
        return [*findings, await self._health()]

    async def _ask(self, probe: Probe) -> list[Finding]:
        seconds = min(self._bounds.probe, self._ends - anyio.current_time())
        if seconds <= 0:
            return [unknown(name, f"not asked: {self._bounds.total:g} s were over") for name in probe.abilities]
        findings, why = await bounded(seconds, partial(probe.ask, self._subject))
        return findings or [unknown(name, why) for name in probe.abilities]

    async def _health(self) -> Finding:
        try:
            lives = await self._subject.endpoint.alive()
        except EngineDeadError as error:
            return no("health", str(error), "restart the server, and look into its log")
        return yes("health", "/health is well after all this") if lives else no("health", "/health does not answer")

    async def _unfit(self, findings: Sequence[Finding]) -> str:
        """Say why the backend for vLLM does not fit; empty if it does."""
        for name in VLLM_CANNOT_DO_WITHOUT:
            if lacks(findings, name):
                return f"the backend for vLLM does not fit: {name}: {found(findings, name).evidence}."
        server = VLLMServer(
            self._subject.endpoint.url, self._served.model, key=self._key, timeouts=self._subject.endpoint.timeouts
        )
        try:
            await server.connect()
        except TTSError as error:
            return f"the backend for vLLM does not fit: {error}."
        finally:
            await server.aclose()
        return ""

    async def _summary(self, findings: Sequence[Finding]) -> Examination:
        subject = self._subject
        return Examination(
            url=subject.endpoint.url, server=await self._server(), model=self._served.model, pooling=False,
            findings=tuple(findings), sampled=subject.sampled, read=subject.read,
        )  # fmt: skip

    async def _server(self) -> str:
        """Return what the server says that it is."""
        said = [await self._told("/v1/models", _owner), await self._told("/version", _version)]
        return " ".join(filter(None, said)) or "unknown"

    async def _told(self, path: str, get: Callable[[Any], Any]) -> str:
        try:
            return str(get(await self._subject.endpoint.get(path)))[:40]
        except (TTSError, KeyError, TypeError, IndexError):
            return ""


def _owner(told: Any) -> Any:
    return told["data"][0]["owned_by"]


def _version(told: Any) -> Any:
    return told["version"]
