"""Writes model.onnx beside a small Llama-architecture checkpoint: `python -m tts.backends.embedded.export FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from tts.backends.embedded.checkpoint import read_checkpoint
from tts.backends.embedded.graph import Llama


def export(folder: str | Path) -> Path:
    """Write model.onnx into a Hugging Face folder and return where it is.

    The file holds the weights, and in its metadata the sizes of the network and the SHA-256 of the weights file that it
    was made from. The same checkpoint gives the same bytes.

    Raises:
        ParameterError: The checkpoint is of an architecture or a variant that is not known.
    """
    folder = Path(folder)
    checkpoint = read_checkpoint(folder)
    model = Llama(checkpoint).build()
    for key, value in (("shape", checkpoint.shape.to_json()), ("checkpoint", checkpoint.digest)):
        model.metadata_props.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        sys.stdout.write(f"{export(argument)}\n")
