"""The scorer over transformers, as far as it goes without torch; the rest is in tests/torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tts.backends.torch_scorer import TorchScorer
from tts.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    from pathlib import Path


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'inference-time-scaling\[torch\]'"):
        TorchScorer(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"rows": 0}, "rows is 0; it is at least 1"), ({"activation": "tanh"}, "it is 'auto' or 'none'")],
)
def test_options_out_of_range_are_refused_before_anything_is_loaded(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        TorchScorer("anything", **options)
