"""Law 7. Faults that pass change nothing, those that stay are raised as themselves, needs are checked first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.laws.benches import bench
from tests.laws.subjects import CASES, label
from tts.laws import errors

if TYPE_CHECKING:
    from tts.protocols import Strategy


@pytest.mark.parametrize(("loop", "strategy"), CASES, ids=label)
def test_the_law(loop: str, strategy: Strategy) -> None:
    anyio.run(errors.check, bench(strategy, loop), backend=loop)
