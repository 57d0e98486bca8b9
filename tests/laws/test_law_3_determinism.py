"""Law 3. What is consumed and answered hangs on the seed, not on timing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.laws.benches import bench
from tests.laws.subjects import CASES, label
from tts.laws import determinism

if TYPE_CHECKING:
    from tts.protocols import Strategy


@pytest.mark.parametrize(("anyio_backend", "strategy"), CASES, indirect=["anyio_backend"], ids=label)
async def test_the_law(strategy: Strategy, anyio_backend_name: str) -> None:
    await determinism.check(bench(strategy, anyio_backend_name))
