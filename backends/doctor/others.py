"""What a server can do that shows no token ids: what the backend for such servers finds out, and a little more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

from tts.backends.doctor.engine import ALONE, BESIDE, judge_cancellation, judge_counts
from tts.backends.doctor.findings import Finding, Verdict, no, unknown, yes
from tts.backends.doctor.subject import bounded, read, together
from tts.backends.openai.probe import probe, render_plainly
from tts.backends.openai.server import OpenAIServer
from tts.backends.openai.wire import Wish, body_of, pieces_of, sampled
from tts.errors import ParameterError, TTSError
from tts.types import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tts.backends.doctor.engine import Look
    from tts.backends.doctor.findings import Examination
    from tts.backends.doctor.subject import Subject
    from tts.backends.openai.probe import Abilities
    from tts.backends.openai.wire import Route

OPEN = "Name an animal, a city, a colour and a number, whatever comes to mind."
PLAIN = "{{ messages[-1].content }}"
"""Stands for the chat template that a server without a chat has to be given."""
CANCELLED = 512
PREFIX_WORDS = 300
DRAWN = 16


async def examine_other(
    subject: Subject, begun: Examination, question: str | None, key: str, seconds: float
) -> Examination:
    """Examine a server through its chat, or its text where there is no chat, within some seconds."""
    ends = anyio.current_time() + seconds

    async def ask() -> Examination:
        abilities = await probe(subject.endpoint, subject.model, question=question)
        subject.sampled += abilities.sampled_tokens
        return await _examined(subject, begun, question, key, abilities, ends)

    examination, why = await bounded(seconds, ask)
    return examination or replace(begun, unfit=why)


async def _examined(
    subject: Subject, begun: Examination, question: str | None, key: str, abilities: Abilities, ends: float
) -> Examination:
    route = abilities.chat or abilities.text
    if route is None:
        absent = "; ".join(f"{path}: {reason}" for path, reason in abilities.absent.items())
        return replace(begun, unfit=f"it answers neither at /v1/completions nor in a chat: {absent}")
    findings = (*begun.findings, *told(route), *await _Asker(subject, route, question or OPEN).all(ends))
    known = replace(begun, findings=findings, sampled=subject.sampled, read=subject.read)
    server = OpenAIServer(
        subject.endpoint.url, subject.model, template=None if route.chat else PLAIN, abilities=abilities, key=key,
        timeouts=subject.endpoint.timeouts,
    )  # fmt: skip
    try:
        await server.connect()
    except TTSError as error:
        return replace(known, unfit=f"the backend for such servers does not fit: {error}")
    finally:
        await server.aclose()
    return replace(
        known, spec=f"openai:{subject.endpoint.url}", template=not route.chat, capabilities=server.capabilities
    )


def told(route: Route) -> list[Finding]:
    """Return what the backend for such servers has found, as findings."""

    def one(ability: str, has: object, seen: str, lack: str, *, number: int | None = None) -> Finding:
        verdict = Verdict.YES if has else Verdict.NO
        return Finding(ability, verdict, seen if has else route.lacks.get(lack, "it was not seen"), number=number)

    tops = route.top_logprobs
    return [
        one("answers", True, f"{route.path} answers", ""),
        no("token ids", "no true ids come with the text"),
        one("prefix continuation", route.continues, f"a greedy answer went on where it was cut ({route.continues})",
            "continues"),
        one("log-probabilities", route.logprobs, "as many as tokens were counted", "logprobs"),
        one("top log-probabilities", tops, f"{tops} for each token", "logprobs", number=tops),
        one("seeds", route.seed_bits, f"one seed gave one text twice, others another; up to {route.seed_bits} bits",
            "seed_bits"),
        one("several samples", route.several, "2 were asked for and came", "several"),
        one("stop reasons", route.stop_field, f"{route.stop_field} tells a stop text from the end of an answer",
            "stop_field"),
        one("max_tokens", route.limited, "no more tokens came than were allowed", "limited"),
        one("streaming", route.streams, "an answer came in pieces, with a count of tokens", "streams"),
    ]  # fmt: skip


@dataclass
class _Asker:
    """Asks what the probe of the backend leaves out."""

    subject: Subject
    route: Route
    question: str

    async def all(self, ends: float) -> list[Finding]:
        asks: dict[str, Callable[[], Awaitable[Finding]]] = {
            "cancellation": self.cancellation,
            "cached-token counts": self.counts,
            "batch invariance": self.invariance,
            "refusal of unknown fields": self.unknown_fields,
        }
        return [await self._bounded(name, ask, ends) for name, ask in asks.items()]

    async def _bounded(self, name: str, ask: Callable[[], Awaitable[Finding]], ends: float) -> Finding:
        finding, why = await bounded(max(0.0, ends - anyio.current_time()), ask)
        return finding or unknown(name, why)

    def _body(self, question: str, max_tokens: int, **more: Any) -> dict[str, Any]:
        extra = {name: more.pop(name) for name in ("a_field_that_nobody_knows",) if name in more}
        wish = Wish(
            messages=(Message(role="user", content=question),), prompt=render_plainly(question), max_tokens=max_tokens,
            **more,
        )  # fmt: skip
        return {**body_of(self.route, self.subject.model, wish), **extra}

    async def _said(self, question: str, max_tokens: int, **more: Any) -> Any:
        said = await self.subject.endpoint.post(self.route.path, self._body(question, max_tokens, **more))
        self.subject.sampled += read(lambda: sampled(said), said) or 0
        return said

    async def cancellation(self) -> Finding:
        async def leave(look: Look) -> int:
            seen = 0

            async def take(said: Any) -> None:
                nonlocal seen
                seen += any(piece.text or piece.thinking for piece in pieces_of("a stream", said))
                if seen >= 4:
                    await look()
                    scope.cancel()

            body = self._body("Write the numbers from one to two hundred in words.", CANCELLED, stream=True)
            with anyio.CancelScope() as scope:
                await self.subject.endpoint.stream(self.route.path, body, take)
            self.subject.sampled += seen
            return seen

        if not self.route.streams:
            return unknown("cancellation", "without a stream there is nothing to leave")
        return await judge_cancellation(self.subject, leave, CANCELLED)

    async def counts(self) -> Finding:
        name, nonce = "cached-token counts", self.subject.nonce
        words = " ".join(f"{nonce}{place}" for place in range(PREFIX_WORDS))
        usages = [_usage(await self._said(words, 1)) for _ in range(2)]
        (_, first), (length, again) = usages
        return judge_counts(name, length, first, again, None, shared=length // 2)

    async def invariance(self) -> Finding:
        name = "batch invariance"
        if not self.route.seed_bits:
            return unknown(name, "without seeds draws cannot be compared")

        async def ask(seed: int) -> str:
            said = await self._said(self.question, DRAWN, seed=seed, temperature=1.0)
            return "".join(piece.thinking + piece.text for piece in pieces_of("a draw", said))

        seeds = [50_000 + place for place in range(ALONE + BESIDE)]
        alone = [await ask(seed) for seed in seeds[:ALONE]]
        beside = (await together(ask, seeds))[:ALONE]
        equal = sum(first == second for first, second in zip(alone, beside, strict=True))
        seen = f"alone and beside {ALONE + BESIDE - 1} others {equal} of {ALONE} seeded draws gave the same text"
        return yes(name, seen) if equal == ALONE else no(name, seen)

    async def unknown_fields(self) -> Finding:
        name = "refusal of unknown fields"
        try:
            await self._said(self.question, 1, a_field_that_nobody_knows=1)
        except ParameterError as error:
            return yes(name, f"a made-up field was refused: {error}")
        return no(name, "a made-up field was taken without a word: a misspelt one does nothing")


def _usage(said: Any) -> tuple[int, int | None]:
    """Return how many prompt tokens were read, and how many of them are said to have been cached."""

    def look() -> tuple[int, int | None]:
        usage = said.get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        return int(usage.get("prompt_tokens") or 0), None if cached is None else int(cached)

    return read(look, said)
