"""What an examination of a server found: plain values, and what backends may build on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from tts.capabilities import Capabilities

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Verdict(StrEnum):
    """Whether a server has an ability."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """it could not be told"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One ability, as it was measured.

    Attributes:
        ability: Its name; the same for every server.
        verdict: Whether the server has it.
        evidence: What was seen, in one sentence. It may hold text of the server.
        advice: A flag or setting that would help; empty if none is known, or none is needed.
        number: How much of it, where that is a number: tokens of a context, of a block, top log-probabilities.
    """

    ability: str
    verdict: Verdict
    evidence: str
    advice: str = ""
    number: int | None = None


def yes(ability: str, evidence: str, *, number: int | None = None) -> Finding:
    """Return that the server has an ability."""
    return Finding(ability, Verdict.YES, evidence, number=number)


def no(ability: str, evidence: str, advice: str = "", *, number: int | None = None) -> Finding:
    """Return that the server does not have an ability, and what would help."""
    return Finding(ability, Verdict.NO, evidence, advice, number)


def unknown(ability: str, evidence: str, advice: str = "") -> Finding:
    """Return that it could not be told."""
    return Finding(ability, Verdict.UNKNOWN, evidence, advice)


def by_count(ability: str, good: int, of: int, evidence: str) -> Finding:
    """Judge draws that should all be alike: most are, none is, or something between.

    Arithmetic that hangs on what an engine batches together can change a draw now and then, a lie changes them all.
    """
    verdict = Verdict.YES if 2 * good > of else Verdict.NO if good == 0 else Verdict.UNKNOWN
    return Finding(ability, verdict, evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a server can do, by its own conduct.

    Attributes:
        url: Where it is.
        server: What it says that it is; "unknown" if it does not say.
        model: The model that was examined.
        pooling: It scores; it does not draw.
        findings: One for each ability, in the order in which they were asked for.
        sampled: Tokens that the examination had the server sample, as far as they were seen.
        read: Prompt tokens that it had the server read.
        spec: What names the fitting backend, such as "vllm:http://localhost:8000"; None if none fits.
        template: That backend has to be given a chat template, since the server applies none.
        unfit: Why a backend that would be better does not fit, or none does; empty if nothing is amiss.
        capabilities: Of that backend, with no more in them than was measured; None where it does not draw.
    """

    url: str
    server: str
    model: str
    pooling: bool
    findings: Sequence[Finding] = field(default_factory=tuple)
    sampled: int = 0
    read: int = 0
    spec: str | None = None
    template: bool = False
    unfit: str = ""
    capabilities: Capabilities | None = None

    def finding(self, ability: str) -> Finding:
        """Return what was found about an ability; unknown if it was not asked for."""
        return found(self.findings, ability)


def found(findings: Iterable[Finding], ability: str) -> Finding:
    """Return what was found about an ability; unknown if it was not asked for."""
    return next((one for one in findings if one.ability == ability), unknown(ability, "it was not asked for"))


def has(findings: Iterable[Finding], ability: str) -> bool:
    """Whether an ability was seen."""
    return found(findings, ability).verdict is Verdict.YES


def lacks(findings: Iterable[Finding], ability: str) -> bool:
    """Whether an ability was seen to be missing."""
    return found(findings, ability).verdict is Verdict.NO


SHOWN_BY = {
    "continuation": "prefix continuation",
    "token_ids": "token ids",
    "logprobs": "log-probabilities",
    "top_logprobs": "top log-probabilities",
    "seeds": "seeds",
}
"""By which finding a capability shows."""


def capabilities_of(name: str, context: int | None, findings: Sequence[Finding]) -> Capabilities:
    """Return what strategies may count on: no more than was seen."""
    return Capabilities(
        name=name,
        context=context,
        continuation=has(findings, "prefix continuation"),
        token_ids=has(findings, "token ids"),
        logprobs=has(findings, "log-probabilities"),
        logprobs_free=False,
        top_logprobs=found(findings, "top log-probabilities").number or 0,
        seeds=has(findings, "seeds"),
        lacks={
            field: found(findings, ability).evidence
            for field, ability in SHOWN_BY.items()
            if not has(findings, ability)
        },
    )
