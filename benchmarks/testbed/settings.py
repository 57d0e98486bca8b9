"""What is measured: how many problems, samples, prefixes and completions, and the seed."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from tts.errors import ParameterError
from tts.protocols import SEED_BLOCK
from tts.registry import explain
from tts.types import Frozen


class Settings(Frozen):
    """How much is drawn. Problems are the task's own; the seed is of what is sampled, and of resampling."""

    problems: int = Field(default=300, ge=1)
    skip: int = Field(default=0, ge=0, description="held-out problems that are passed over first")
    samples: int = Field(default=64, ge=1, le=SEED_BLOCK, description="whole samples of each problem")
    temperature: float = Field(default=0.8, gt=0, le=5)
    seed: int = 7
    prefixes: int = Field(default=2000, ge=0, description="step ends that are continued; 0 leaves this out")
    completions: int = Field(default=16, ge=2, le=SEED_BLOCK, description="fresh ones of each such prefix")
    in_flight: int = Field(
        default=32, ge=1, exclude=True, description="requests at a time; figures do not depend on it"
    )


def settle(**values: Any) -> Settings:
    """Make settings.

    Raises:
        ParameterError: A value is out of range.
    """
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ParameterError(f"testbed: {explain(error)}") from None
