"""What a benchmark run is asked to do: a frozen value with a hash, by which a file of results knows its run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, ValidationError, model_validator

from tts.budget import Budget
from tts.errors import ParameterError
from tts.registry import explain
from tts.types import Frozen, Sampling

_UNITS = {
    "tokens": "tok",
    "samples": "samples",
    "verifier_calls": "calls",
    "seconds": "s",
    "dollars": "usd",
    "flops": "flops",
}


class Contender(Frozen):
    """A strategy with the parameters that are set, under the name by which results call it."""

    label: str
    strategy: str
    parameters: dict[str, Any] = Field(default_factory=dict, description="those set; the others have their defaults")
    size: str | None = Field(default=None, description="parameter that a budget sizes; None takes the usual one")

    @model_validator(mode="after")
    def _label_can_be_typed(self) -> Contender:
        if re.fullmatch(r"\w[\w-]*", self.label) is None:
            raise ParameterError(f"label {self.label!r} of {self.strategy}: letters, digits, _ and - make a label")
        return self


class Configuration(Frozen):
    """Everything that the figures of a run hang on, but for the facts in its fingerprint.

    A budget in tokens, samples, calls, dollars or operations is what a strategy may spend a problem: on average, its
    size fitted to it (see `tts.benchmarks.sizing`), or, with `hard`, never more. Seconds are always a hard limit.
    """

    task: str
    problems: int | None = Field(default=None, gt=0, description="the first so many; None is all")
    contenders: tuple[Contender, ...] = Field(min_length=1)
    budgets: tuple[Budget, ...] = Field(default=(Budget(),), min_length=1)
    hard: bool = False
    generator: str = Field(description="as it was asked for; the fingerprint says what it was")
    verifier: str | None = None
    system: str | None = None
    sampling: Sampling = Sampling()
    seed: int = 0
    in_flight: int = Field(default=16, gt=0, description="problems searched side by side")
    concurrency: int = Field(default=64, gt=0, description="requests in flight, over all problems")
    pilot: int = Field(default=64, gt=0, description="problems, at most, on which a strategy is sized")

    @model_validator(mode="after")
    def _has_no_duplicates(self) -> Configuration:
        labels = [contender.label for contender in self.contenders]
        budgets = [describe(budget) for budget in self.budgets]
        for name, values in (("strategy", labels), ("budget", budgets)):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ParameterError(f"{name} {', '.join(twice)} is given twice")
        return self

    def hash(self) -> str:
        """Return the SHA-256 of the configuration, equal for equal ones."""
        return digest(self.model_dump(mode="json"))


def configure(**values: Any) -> Configuration:
    """Make a configuration, turning what pydantic says into one line.

    Raises:
        ParameterError: A value is out of range.
    """
    try:
        return Configuration(**values)
    except ValidationError as error:
        raise ParameterError(f"benchmark: {explain(error)}") from None


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON value, the same for every order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def describe(budget: Budget) -> str:
    """Write a budget in one way, which `Budget.parse` reads back: "4096tok,30s"; without limits, "unlimited"."""
    limits = [f"{value:.15g}{_UNITS[name]}" for name, value in budget if value is not None]
    return ",".join(limits) or "unlimited"


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Say in which fields two JSON objects differ, "sampling.temperature: 0.8 there, 1.0 here"."""
    old, new = dict(_flat(there)), dict(_flat(here))
    return [
        f"{name}: {json.dumps(old.get(name))} there, {json.dumps(new.get(name))} here"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and value:
        children: Iterator[tuple[str, object]] = ((str(name), child) for name, child in value.items())
    elif isinstance(value, list | tuple) and value:
        children = ((str(place), child) for place, child in enumerate(value))
    else:
        yield prefix, value
        return
    for name, child in children:
        yield from _flat(child, f"{prefix}.{name}" if prefix else name)
