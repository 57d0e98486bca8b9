"""What a search cost, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tts.types import Usage


def count(number: int, thing: str) -> str:
    """Return "1 token", "2,345 tokens"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def spent(usage: Usage) -> str:
    """Return one line with everything that a budget can limit."""
    parts = [count(usage.generated, "token"), count(usage.samples, "sample")]
    if usage.verifier_calls:
        parts.append(count(usage.verifier_calls, "verifier call"))
    parts.append(f"{usage.seconds:.1f} s")
    if usage.dollars is not None:
        parts.append(f"${usage.dollars:.4f}")
    if usage.flops is not None:
        parts.append(f"{usage.flops:.2g} FLOPs")
    if usage.unobserved:
        parts.append(f"at most {count(usage.unobserved, 'token')} unseen")
    return ", ".join(parts)
