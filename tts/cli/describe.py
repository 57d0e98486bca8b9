"""What stands under a registered name: its summary, what it needs, and its parameters with defaults and ranges."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from pydantic import PydanticUserError, ValidationError, create_model

from tts import registry
from tts.cli.text import one_line
from tts.errors import TTSError
from tts.protocols import Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tts.registry import Kind

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_WORDS = {"string": "text", "array": "list", "boolean": "true or false"}
_EMBEDDED: Mapping[tuple[Kind, str], Mapping[str, tuple[str, ...]]] = {
    ("generator", "embedded"): {
        "needs": ("extra embedded",),
        "gives": ("continuation", "log-probabilities", "seeds", "exact cancellation"),
    },
    ("verifier", "embedded"): {"needs": ("extra embedded",), "gives": ("scores of steps", "partial scores")},
}
"""What stands in the capabilities of our own backends, which are known only once a model is loaded."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; `default` is None where it must be given or the library chooses."""

    name: str
    type: str
    default: object
    description: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """One registered thing; `problem` says why it cannot be had here, `fixed` that its parameters cannot be set."""

    name: str
    summary: str
    needs: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    papers: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    fixed: bool = False
    problem: str | None = None


def describe(kind: Kind, name: str) -> Description:
    """Describe what is registered under a name; what another package broke is told, not raised."""
    try:
        found = registry.find(kind, name)
        return describe_strategy(found, name) if kind == "strategy" else _describe_other(kind, name, found)
    except (TTSError, ImportError, AttributeError, TypeError, ValueError) as error:
        return Description(name, "", problem=str(error))


def describe_strategy(found: type[Strategy] | Strategy, name: str) -> Description:
    """Describe a strategy class by its docstring and its schema, or one that is registered with its parameters."""
    if isinstance(found, Strategy):
        return _describe_made(found, name)
    return _describe_class(found, name)


def _describe_made(strategy: Strategy, name: str) -> Description:
    drawn: Any = getattr(strategy, "describe", None)
    summary = one_line(drawn()) if callable(drawn) else summary_of(type(strategy))
    return Description(name, summary, needs=needs_of(strategy), papers=_papers(type(strategy)), fixed=True)


def _describe_class(kind: type[Strategy], name: str) -> Description:
    schema = kind.model_json_schema()
    definitions = schema.get("$defs", {})
    return Description(
        name,
        summary_of(kind),
        needs=_needs(kind),
        papers=_papers(kind),
        parameters=tuple(
            Parameter(field, type_of(entry, definitions), entry.get("default"), entry.get("description", ""))
            for field, entry in schema.get("properties", {}).items()
        ),
    )


def _papers(kind: type[Strategy]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"arXiv:?\s*(\d{4}\.\d{4,5})", inspect.getdoc(kind) or "")))


def summary_of(thing: object) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def needs_of(strategy: Strategy) -> tuple[str, ...]:
    """Return what a strategy needs of its backends, in words."""
    return tuple(need.name.replace("_", " ") for need in fields(strategy.needs) if getattr(strategy.needs, need.name))


def _needs(kind: type[Strategy]) -> tuple[str, ...]:
    try:
        return needs_of(kind())
    except ValidationError:
        return ("depends on its parameters",)


def _describe_other(kind: Kind, name: str, found: Any) -> Description:
    if kind == "task":
        return Description(name, summary_of(type(found)))
    return Description(
        name,
        summary_of(found),
        needs=_said(kind, name, found, "needs"),
        gives=_said(kind, name, found, "gives"),
        parameters=tuple(
            Parameter(
                option.name, _option_type(option, found), None if option.default is option.empty else option.default
            )
            for option in registry.options_of(found).values()
        ),
    )


def _said(kind: Kind, name: str, factory: Any, word: str) -> tuple[str, ...]:
    """Return what a factory's docstring says in a line "Needs: a, b"; of our own factories it is known."""
    where = f"{getattr(factory, '__module__', '')}:{getattr(factory, '__qualname__', '')}"
    if registry.BUILT_IN[kind].get(name) == where:
        return _EMBEDDED.get((kind, name), {}).get(word, ())
    line = re.search(rf"^{word.capitalize()}: *(.+)$", inspect.getdoc(factory) or "", re.MULTILINE)
    return tuple(part.strip() for part in one_line(line[1]).split(",")) if line else ()


def _option_type(option: inspect.Parameter, factory: Any) -> str:
    """Say what an option may be, in the words of `type_of`; where its annotation means nothing here, the annotation."""
    if option.annotation is option.empty:
        return "any"
    try:
        fields_of: Any = {"option": (option.annotation, ...)}
        schema = create_model("_Described", __module__=factory.__module__, **fields_of).model_json_schema()
    except (PydanticUserError, AttributeError, TypeError):
        return str(option.annotation)
    return type_of(schema["properties"]["option"], schema.get("$defs", {}))


def type_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Say in a few words what a JSON schema allows."""
    if "$ref" in schema:
        return type_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(type_of(part, definitions) for part in schema[union])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    bounds = ",".join(f" {sign} {schema[bound]}" for bound, sign in _BOUNDS.items() if bound in schema)
    items = f" of {type_of(schema['items'], definitions)}" if "items" in schema else ""
    kind = schema.get("type", "any")
    return f"{_WORDS.get(kind, kind)}{items}{bounds}"
