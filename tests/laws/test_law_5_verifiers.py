"""Law 5. A verifier that breaks its word is a typed error, never a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.laws.benches import bench
from tests.laws.subjects import CASES, label
from tts.laws import verifiers

if TYPE_CHECKING:
    from tts.protocols import Strategy


@pytest.mark.parametrize(("loop", "strategy"), CASES, ids=label)
def test_the_law(loop: str, strategy: Strategy) -> None:
    anyio.run(verifiers.check, bench(strategy, loop), backend=loop)
