"""Law 2. What was sampled, read and scored is charged once, and the events sum to the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.laws.benches import bench
from tests.laws.subjects import CASES, label
from tts.laws import accounting

if TYPE_CHECKING:
    from tts.protocols import Strategy


@pytest.mark.parametrize(("anyio_backend", "strategy"), CASES, indirect=["anyio_backend"], ids=label)
async def test_the_law(strategy: Strategy, anyio_backend_name: str) -> None:
    await accounting.check(bench(strategy, anyio_backend_name))
