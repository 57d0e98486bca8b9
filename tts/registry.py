"""Names to things: strategies, generators, verifiers, tasks; also from entry points of other packages."""

from __future__ import annotations

import importlib
import inspect
import reprlib
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ValidationError

from tts.errors import ParameterError, UnknownNameError
from tts.protocols import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from tts.protocols import Generator, Verifier
    from tts.tasks import Task

Kind = Literal["strategy", "generator", "verifier", "task"]

BUILT_IN: Mapping[Kind, Mapping[str, str]] = {
    "strategy": {
        "a_star": "tts.strategies.a_star:AStar",
        "beam": "tts.strategies.beam:Beam",
        "best_of_n": "tts.strategies.best_of_n:BestOfN",
        "first_finish": "tts.strategies.first_finish:FirstFinish",
        "particle_filter": "tts.strategies.particle_filter:ParticleFilter",
        "self_consistency": "tts.strategies.self_consistency:SelfConsistency",
    },
    "generator": {
        "embedded": "tts.registry:_embedded_generator",
        "openai": "tts.backends.openai.server:OpenAIServer",
        "pool": "tts.backends.pool:pool_of_servers",
        "vllm": "tts.backends.vllm_server:VLLMServer",
        "vllm-engine": "tts.backends.vllm_engine:VLLMEngine",
    },
    "verifier": {
        "calibrated": "tts.verifier_factories:calibrated",
        "cascade": "tts.verifier_factories:cascade",
        "combined": "tts.verifier_factories:combined",
        "embedded": "tts.verifier_factories:embedded",
        "escalating": "tts.verifier_factories:escalating",
        "exact": "tts.verifier_factories:exact",
        "executable": "tts.verifier_factories:executable",
        "generative": "tts.verifier_factories:generative",
        "noisy-oracle": "tts.verifier_factories:noisy_oracle",
        "oracle": "tts.verifier_factories:oracle",
        "outcome": "tts.verifier_factories:outcome",
        "pool": "tts.verifier_factories:pool",
        "statistical": "tts.verifier_factories:statistical",
        "torch": "tts.verifier_factories:torch",
        "vllm": "tts.verifier_factories:vllm",
    },
    "task": {
        "arithmetic-words": "tts.benchmarks.tasks:ARITHMETIC_WORDS",
        "countdown": "tts.benchmarks.tasks:COUNTDOWN",
        "countdown-hard": "tts.benchmarks.tasks:COUNTDOWN_HARD",
    },
}
"""Each name with where it is, imported when asked for; entry points of group "tts.strategy" and so on add to it."""

_added: dict[Kind, dict[str, Any]] = {"strategy": {}, "generator": {}, "verifier": {}, "task": {}}


@cache
def _from_entry_points(kind: Kind) -> Mapping[str, str]:
    return {point.name: point.value for point in entry_points(group=f"tts.{kind}")}


def names(kind: Kind) -> list[str]:
    """Return every name of a kind, sorted."""
    return sorted({*BUILT_IN[kind], *_from_entry_points(kind), *_added[kind]})


def register(kind: Kind, name: str, thing: object) -> None:
    """Add a strategy class, a factory of generators or verifiers, or a task, under a name."""
    _added[kind][name] = thing


def find(kind: Kind, name: str) -> Any:
    """Return what stands under a name.

    Raises:
        UnknownNameError: Nothing does; the nearest names are given.
    """
    if name in _added[kind]:
        return _added[kind][name]
    where = BUILT_IN[kind].get(name) or _from_entry_points(kind).get(name)
    if where is None and name in ("http", "https"):
        raise ParameterError(f"a URL alone does not say what is there: write vllm:{name}://... for a {kind} on vLLM")
    if where is None:
        raise UnknownNameError(kind, name, names(kind))
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)


def strategy(given: str | Strategy, /, **parameters: object) -> Strategy:
    """Return a strategy by name and parameters; one that is made already is returned as it is.

    Raises:
        UnknownNameError: No such strategy.
        ParameterError: An unknown parameter (the nearest names are given) or a value out of range.
    """
    if isinstance(given, Strategy):
        return given
    if not isinstance(given, str):
        raise ParameterError(f"strategy is {given!r}: expected a name, or a Strategy with its parameters")
    found = find("strategy", given)
    if not isinstance(found, Strategy):
        return build(found, given, parameters)
    if parameters:
        raise ParameterError(f"{given} is registered with its parameters; it takes none")
    return found


def build(kind: type[Strategy], name: str, parameters: Mapping[str, object]) -> Strategy:
    """Make a strategy, turning what pydantic says into one line."""
    for parameter in parameters:
        if parameter not in kind.model_fields:
            raise UnknownNameError(f"parameter of {name}", parameter, kind.model_fields)
    try:
        return kind(**parameters)
    except ValidationError as error:
        raise ParameterError(f"{name}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Say in one line which values were refused, and why."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'value'}={reprlib.repr(item['input'])}: {item['msg'].lower()}"
        for item in error.errors()
    )


def generator(spec: str) -> Generator:
    """Make a generator from "name" or "name:rest", such as "embedded" or "embedded:FOLDER"."""
    return cast("Generator", make("generator", spec))


def verifier(spec: str) -> Verifier:
    """Make a verifier from "name" or "name:rest"."""
    return cast("Verifier", make("verifier", spec))


def task(name: str) -> Task:
    """Return a task by name."""
    return cast("Task", find("task", name))


def make(kind: Kind, spec: str, options: Mapping[str, object] | None = None) -> object:
    """Make a generator or a verifier from "name" or "name:rest", and options of its factory.

    Raises:
        UnknownNameError: No such name, or the factory takes no such option.
        ParameterError: An option is no such thing.
    """
    name, _, rest = spec.partition(":")
    factory: Callable[..., object] = find(kind, name)
    if not options:
        return factory(rest)
    known = options_of(factory)
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of {kind} {name}", option, known)
    try:
        return factory(rest, **options)
    except ValidationError as error:
        raise ParameterError(f"{kind} {name}: {explain(error)}") from None
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{kind} {name}: {error}") from None


def options_of(factory: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """Return what a factory takes beside the text after the colon."""
    return dict(list(inspect.signature(factory).parameters.items())[1:])


def check_options(given: Iterable[str], known: Collection[str]) -> None:
    """Refuse an option that does not exist.

    Raises:
        UnknownNameError: Names the nearest ones.
    """
    for option in given:
        if option not in known:
            raise UnknownNameError("option", option, known)


def positive(name: str, value: int) -> int:
    """Return a count that is at least one.

    Raises:
        ParameterError: It is not.
    """
    if value < 1:
        raise ParameterError(f"{name} is {value}; it is at least 1")
    return value


def _embedded_generator(model: str, *, template: str | None = None, threads: int = 1) -> Generator:
    """Draw from the bundled arithmetic policy, or from a folder of one's own; in this process, on the CPU."""
    from tts.backends.embedded import EmbeddedGenerator

    return EmbeddedGenerator(model or "arithmetic-policy", template=template, threads=threads)
