"""The training of the bundled models, all stages at a thousandth of their size; here because torch is here."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tts.backends.embedded import EmbeddedGenerator, EmbeddedScorer
from tts.backends.embedded.folder import BUNDLED

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = (sys.executable, "-m", "tts.backends.embedded.training", "--share", "0.0005")


def test_every_stage_runs_once_and_makes_models_like_the_bundled_ones(tmp_path: Path) -> None:
    arguments = ("--work", tmp_path / "work", "--bundle", tmp_path / "models")
    first = subprocess.run([*COMMAND, *arguments], check=True, capture_output=True, text=True)
    assert "skipped" not in first.stdout
    again = subprocess.run([*COMMAND, *arguments], check=True, capture_output=True, text=True)
    assert again.stdout.count("skipped") == 6
    for bundled in BUNDLED.iterdir():
        made = tmp_path / "models" / bundled.name
        assert {file.name for file in made.iterdir()} == {file.name for file in bundled.iterdir()}
        for name in ("config.json", "tokenizer.json", "tts.json"):
            assert (made / name).read_bytes() == (bundled / name).read_bytes()
    policy = EmbeddedGenerator(tmp_path / "models" / "arithmetic-policy")
    judge = EmbeddedScorer(tmp_path / "models" / "arithmetic-prm")
    assert policy.capabilities.flops_per_token == EmbeddedGenerator().capabilities.flops_per_token
    assert judge.capabilities.classes == 2
