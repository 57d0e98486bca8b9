"""The picture in docs/architecture.md, held by parsing the imports."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from tests.sources import ROOT, Source, module_of, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KNOWN = frozenset(source.module for source in sources())
ONLY = {
    "errors": set[str](),
    "types": {"errors"},
    "capabilities": set[str](),
    "protocols": {"types"},
    "strategies": {
        "aggregation", "capabilities", "errors", "graph", "notation", "protocols", "resampling", "seeds", "selection",
        "steps", "types", "voting",
    },
    "verifiers": {
        "aggregation", "answers", "calibration", "capabilities", "errors", "grading", "groups", "protocols", "sandbox",
        "seeds", "steps", "types",
    },
    "backends": {
        "admission", "affinity", "capabilities", "errors", "groups", "protocols", "retry", "seeds", "steps", "trace",
        "types",
    },
}  # fmt: skip
"""Rooms that may use these and themselves, and no others, when they run."""

ABOVE = {"cli", "planner", "benchmarks", "backends", "__main__"}
"""Rooms that the library proper does not use; the registry and the factories that it names alone import backends and
tasks, when asked for one."""
USERS = {"training", "cli", "planner", "benchmarks", "backends", "__main__", "registry", "verifier_factories"}
SOLVERS = {"solve", "many"}
MAY_SOLVE = {"tts", "cli", "planner", "benchmarks", "solve", "many", "laws", "checks", "drawing", "testing"}

HOME = {
    "httpx": "backends/",
    "onnxruntime": "backends/embedded/",
    "tokenizers": "backends/embedded/",
    "jinja2": "backends/embedded/",
    "torch": "backends/",
    "transformers": "backends/",
    "vllm": "backends/",
    "rich": "tts/cli/",
    "networkx": "tts/graph.py",
}
"""The one place from which each of these is imported."""

BANNED = {
    "asyncio": {"gather", "create_task", "ensure_future", "Lock", "Semaphore", "Queue", "sleep", "wait", "wait_for"},
    "random": {"random", "choice", "choices", "seed", "shuffle", "randint", "sample", "uniform"},
    "time": {"time", "sleep"},
}
MAY_PRINT = ("tts/cli/", "backends/embedded/training/", "benchmarks/speed/")
MAY_WAIT_FOR_REAL = ("tts/cli/", "benchmarks/speed/", "backends/embedded/training/")


def place(source: Source) -> str:
    return source.path.relative_to(ROOT).as_posix()


def used(source: Source) -> Iterator[str]:
    """Yield the library's modules that a source imports when it runs."""
    for one in source.imports():
        module = None if one.typing_only else module_of(one.name, KNOWN)
        if module is not None and module != "tts":
            yield module


def offences(rule: Callable[[Source], Iterator[str]]) -> list[str]:
    """Return what a rule finds wrong, with the files in which it does."""
    return [f"{place(source)}: {wrong}" for source in sources() for wrong in rule(source)]


def uses_what_lies_above(source: Source) -> Iterator[str]:
    rooms = {module.split(".")[1] for module in used(source)} - {source.room}
    if source.room in ONLY:
        yield from rooms - ONLY[source.room]
    if source.room not in USERS:
        yield from rooms & ABOVE
    if source.room not in MAY_SOLVE:
        yield from rooms & SOLVERS
    if source.room not in ("cli", "__main__"):
        yield from rooms & {"cli"}


def imports_away_from_home(source: Source) -> Iterator[str]:
    for one in source.imports():
        home = HOME.get(one.name.split(".")[0], "")
        if not (one.typing_only or place(source).startswith(home)):
            yield one.name


def prints(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"line {node.lineno}"


def escapes_structure_or_seeds(source: Source) -> Iterator[str]:
    modules = {one.name for one in source.imports() if not one.typing_only} & set(BANNED)
    if place(source).startswith(MAY_WAIT_FOR_REAL):
        modules.discard("time")
    for node in ast.walk(source.tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules):
            continue
        if node.attr in BANNED[node.value.id]:
            yield f"line {node.lineno}: {node.value.id}.{node.attr}"


def is_long(source: Source) -> Iterator[str]:
    if source.lines > 350:
        yield f"{source.lines} lines"
    functions = [node for node in ast.walk(source.tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    yield from (node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 60)


def explains_nothing(source: Source) -> Iterator[str]:
    if source.tree.body and not ast.get_docstring(source.tree):
        yield "the file"
    yield from (node.name for node in public(source.tree) if not ast.get_docstring(node))


def public(tree: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def test_rooms_use_what_lies_below_them() -> None:
    assert offences(uses_what_lies_above) == []


def test_nothing_imports_itself_in_a_circle() -> None:
    graph = {
        source.module: {
            module
            for one in source.imports()
            if not (one.typing_only or one.lazy)
            for module in [module_of(one.name, KNOWN)]
            if module not in (None, source.module)
        }
        for source in sources()
    }
    circle: list[str] = []
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


def test_each_dependency_lives_in_one_place() -> None:
    assert offences(imports_away_from_home) == []


def test_only_the_command_line_prints() -> None:
    assert [offence for offence in offences(prints) if not offence.startswith(MAY_PRINT)] == []


def test_nothing_escapes_structure_or_seeds() -> None:
    assert offences(escapes_structure_or_seeds) == []


def test_files_and_functions_are_short() -> None:
    assert offences(is_long) == []


def test_everything_public_says_what_it_is_for() -> None:
    assert offences(explains_nothing) == []


def test_the_rules_find_what_breaks_them() -> None:
    wrong = "import asyncio, httpx\nfrom tts import cli\ndef f():\n    print(asyncio.gather())\n" + "\n" * 400
    source = Source(ROOT / "tts" / "wrong.py", "tts.wrong", ast.parse(wrong), 404)
    found = {rule.__name__: list(rule(source)) for rule in RULES}
    assert found == {
        "uses_what_lies_above": ["cli", "cli"],
        "imports_away_from_home": ["httpx"],
        "prints": ["line 4"],
        "escapes_structure_or_seeds": ["line 4: asyncio.gather"],
        "is_long": ["404 lines"],
        "explains_nothing": ["the file", "f"],
    }


RULES = (
    uses_what_lies_above, imports_away_from_home, prints, escapes_structure_or_seeds, is_long, explains_nothing,
)  # fmt: skip


def test_tests_are_held_to_the_same_length() -> None:
    long = [path for path in (ROOT / "tests").rglob("*.py") if path.read_text(encoding="utf-8").count("\n") > 350]
    assert long == []
