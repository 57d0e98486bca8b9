"""What stands under a registered name: its summary, what it needs, and its parameters with defaults and ranges."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tts import registry
from tts.cli.backends import registry_options
from tts.errors import TTSError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tts.protocols import Strategy
    from tts.registry import Kind

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; `default` is None where it must be given or the library chooses."""

    name: str
    type: str
    default: object
    description: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """One registered thing; `problem` says why it cannot be had here."""

    name: str
    summary: str
    needs: tuple[str, ...] = ()
    papers: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    problem: str | None = None


def describe(kind: Kind, name: str) -> Description:
    """Describe what is registered under a name; what another package broke is told, not raised."""
    try:
        found = registry.find(kind, name)
        return describe_strategy(found, name) if kind == "strategy" else _describe_other(kind, name, found)
    except (TTSError, ImportError, AttributeError) as error:
        return Description(name, "", problem=str(error))


def describe_strategy(kind: type[Strategy], name: str) -> Description:
    """Describe a strategy class by its docstring and its schema."""
    schema = kind.model_json_schema()
    definitions = schema.get("$defs", {})
    return Description(
        name,
        summary_of(kind),
        needs=_needs(kind),
        papers=tuple(dict.fromkeys(re.findall(r"arXiv:?\s*(\d{4}\.\d{4,5})", inspect.getdoc(kind) or ""))),
        parameters=tuple(
            Parameter(field, type_of(entry, definitions), entry.get("default"), entry.get("description", ""))
            for field, entry in schema.get("properties", {}).items()
        ),
    )


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
    options = registry_options(found).values()
    return Description(
        name,
        summary_of(found),
        parameters=tuple(
            Parameter(option.name, str(option.annotation), None if option.default is option.empty else option.default)
            for option in options
        ),
    )


def type_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Say in a few words what a JSON schema allows."""
    if "$ref" in schema:
        return type_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " | ".join(type_of(part, definitions) for part in schema[union])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    bounds = "".join(f" {sign}{schema[bound]}" for bound, sign in _BOUNDS.items() if bound in schema)
    items = f" of {type_of(schema['items'], definitions)}" if "items" in schema else ""
    return f"{schema.get('type', 'any')}{items}{bounds}"
