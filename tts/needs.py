"""What a strategy needs against what the backends have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts import registry
from tts.errors import NeedsError
from tts.protocols import Needs, Strategy

if TYPE_CHECKING:
    from tts.capabilities import Capabilities
    from tts.protocols import Generator, Verifier


def check_needs(strategy: Strategy, generator: Generator, verifier: Verifier | None) -> None:
    """Refuse a strategy that needs what the backends do not have.

    Raises:
        NeedsError: Says what is missing and what would do.
    """
    able = generator.capabilities
    if not _judged(strategy, verifier):
        if verifier is None:
            raise NeedsError(
                f"{strategy.name} needs a verifier: give verifier=..., such as vllm:URL of a reward model, or the "
                "embedded one"
            )
        raise NeedsError(
            f"{strategy.name} scores unfinished paths; {verifier.capabilities.name} judges finished ones only: "
            "use a process reward model"
        )
    lacking = _lacking(strategy.needs, able)
    if lacking is not None:
        raise NeedsError(f"{strategy.name} {_said(lacking, able)}: {_what_would_do(able, verifier)}")
    if verifier is not None:
        judge = verifier.capabilities
        lacking = _lacking(Needs(logprobs=judge.logprobs, top_logprobs=judge.top_logprobs), able)
        if lacking is not None:
            raise NeedsError(
                f"{judge.name} {_said(lacking, able)}: use another verifier, or a generator that gives them"
            )


def _said(lacking: tuple[str, str], able: Capabilities) -> str:
    ability, what = lacking
    return f"{what} ({able.lacks[ability]})" if ability in able.lacks else what


def _lacking(needs: Needs, able: Capabilities) -> tuple[str, str] | None:
    """Return the ability that is needed and that a generator lacks, and how to say so."""
    if needs.continuation and not able.continuation:
        return "continuation", f"continues paths step by step; {able.name} cannot continue a given text"
    if needs.logprobs and not able.logprobs:
        return "logprobs", f"needs log-probabilities; {able.name} gives none"
    if needs.top_logprobs > able.top_logprobs:
        wanted = f"the {needs.top_logprobs} greatest log-probabilities of each token"
        return "top_logprobs", f"needs {wanted}; {able.name} gives {able.top_logprobs}"
    return None


def _what_would_do(able: Capabilities, verifier: Verifier | None) -> str:
    """Name the strategies that run on a generator as it is, and generators on which all do."""
    known = [registry.find("strategy", name) for name in registry.names("strategy")]
    made = [kind if isinstance(kind, Strategy) else kind() for kind in known if _needs_no_parameters(kind)]
    running = sorted(one.name for one in made if _lacking(one.needs, able) is None and _judged(one, verifier))
    other = "a vLLM server (vllm:URL) or the embedded model has it"
    return f"{', '.join(running)} would do on it; {other}" if running else other


def _judged(strategy: Strategy, verifier: Verifier | None) -> bool:
    needs = strategy.needs
    if verifier is None:
        return not (needs.verifier or needs.partial_scores)
    return verifier.capabilities.partial or not needs.partial_scores


def _needs_no_parameters(kind: Strategy | type[Strategy]) -> bool:
    return isinstance(kind, Strategy) or not any(entry.is_required() for entry in kind.model_fields.values())
