"""Law 4. Steps end by the engine's word, join to the text, and are continued as token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.laws.benches import bench
from tests.laws.subjects import CASES, label
from tts.laws import steps

if TYPE_CHECKING:
    from tts.protocols import Strategy


@pytest.mark.parametrize(("anyio_backend", "strategy"), CASES, indirect=["anyio_backend"], ids=label)
async def test_the_law(strategy: Strategy, anyio_backend_name: str) -> None:
    await steps.check(bench(strategy, anyio_backend_name))
