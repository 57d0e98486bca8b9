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
    [
        ({"rows": 0}, "rows is 0; it is at least 1"),
        ({"activation": "tanh"}, "it is 'auto' or 'none'"),
        ({"dtype": "float9"}, "dtype is 'float9'; it is one of auto, float32, bfloat16, float16"),
        ({"batch": 0}, "batch and in_flight are at least 1"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_loaded(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        TorchScorer("anything", **options)


def test_a_model_has_to_be_named() -> None:
    with pytest.raises(ParameterError, match="name a folder with a model, or a model on the hub"):
        TorchScorer("")
