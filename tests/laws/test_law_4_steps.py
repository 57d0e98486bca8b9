"""Law 4. Steps end by the engine's word, join to the text, and are continued as token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.laws.benches import bench
from tests.laws.subjects import CASES, label
from tts.laws import steps

if TYPE_CHECKING:
    from tts.protocols import Strategy


@pytest.mark.parametrize(("loop", "strategy"), CASES, ids=label)
def test_the_law(loop: str, strategy: Strategy) -> None:
    anyio.run(steps.check, bench(strategy, loop), backend=loop)
