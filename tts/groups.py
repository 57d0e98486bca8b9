"""Taking the error that matters out of an exception group."""

from __future__ import annotations


def unwrap(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group as itself, the others as notes on it; interrupts go before errors."""
    leaves = list(_leaves(group))
    first = next((leaf for leaf in leaves if not isinstance(leaf, Exception)), leaves[0])
    for other in leaves:
        if other is not first:
            first.add_note(f"at the same time: {type(other).__name__}: {other}")
    return first


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
