"""Law 8. Answers are grouped by what they mean, and what cannot be read does not vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.laws.benches import bench
from tests.laws.subjects import CASES, label
from tts.laws import answers

if TYPE_CHECKING:
    from tts.protocols import Strategy


@pytest.mark.parametrize(("loop", "strategy"), CASES, ids=label)
def test_the_law(loop: str, strategy: Strategy) -> None:
    anyio.run(answers.check, bench(strategy, loop), backend=loop)
