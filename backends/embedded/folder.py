"""A model's folder: where it is, and the facts in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tts.errors import ParameterError, UnknownNameError

BUNDLED = Path(__file__).parent / "models"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder with model.onnx, tokenizer.json and tokenizer_config.json, and perhaps tts.json with suggestions."""

    path: Path

    @property
    def name(self) -> str:
        """How results name the model."""
        return f"embedded/{self.path.name}"

    @property
    def network(self) -> Path:
        """The ONNX file."""
        return self.path / "model.onnx"

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the folder; empty if it is not there."""
        path = self.path / name
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return loaded

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file of the folder."""
        return hashlib.sha256((self.path / name).read_bytes()).hexdigest()


def find_folder(model: str | Path) -> Folder:
    """Find a bundled model by its name, or a folder by its path.

    Raises:
        UnknownNameError: There is neither.
        ParameterError: The folder has not been exported.
    """
    bundled = {entry.name: entry for entry in BUNDLED.iterdir() if entry.is_dir()}
    path = bundled.get(str(model), Path(model))
    if not path.is_dir():
        raise UnknownNameError("embedded model", str(model), bundled)
    if not (path / "model.onnx").exists():
        raise ParameterError(f"{path} has no model.onnx: run python -m tts.backends.embedded.export {path}")
    return Folder(path.resolve())
