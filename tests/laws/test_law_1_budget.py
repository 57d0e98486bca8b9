"""Law 1. No limit is exceeded, and whatever was held is free again at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.laws.benches import bench
from tests.laws.subjects import CASES, label
from tts.laws import budget

if TYPE_CHECKING:
    from tts.protocols import Strategy


@pytest.mark.parametrize(("loop", "strategy"), CASES, ids=label)
def test_the_law(loop: str, strategy: Strategy) -> None:
    anyio.run(budget.check, bench(strategy, loop), backend=loop)
