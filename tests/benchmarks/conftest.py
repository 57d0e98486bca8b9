"""A task of toy questions, scripted backends that answer them, and the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tts import registry
from tts.answers import MathAnswerReader
from tts.benchmarks.configuration import Configuration, configure
from tts.benchmarks.runner import Backends, Progress, run_benchmark
from tts.budget import Budget
from tts.cli.main import main
from tts.errors import BackendError
from tts.tasks import Item
from tts.testing import ScriptedGenerator, ScriptedVerifier, tree_script
from tts.types import Message, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from tts.benchmarks.results import Results
    from tts.protocols import GenerationRequest, Sink


@dataclass(frozen=True)
class Toy:
    """Questions "Question 1", "Question 2", ... whose right answers are 1, 2, 0, 1, ..."""

    size: int = 40
    name: str = "toy"
    reader: MathAnswerReader = field(default_factory=MathAnswerReader)

    def items(self, limit: int | None = None) -> Sequence[Item]:
        count = self.size if limit is None else min(limit, self.size)
        return [_item(number) for number in range(1, count + 1)]

    def grade(self, item: Item, answer: str) -> bool:
        return answer == item.gold


def _item(number: int) -> Item:
    problem = Problem(messages=(Message(role="user", content=f"Question {number}"),), id=f"toy-{number}")
    return Item(problem, str(number % 3))


@dataclass
class Unreliable(ScriptedGenerator):
    """Fails for good on some questions, and does something more on every request."""

    failing: Sequence[str] = ()
    error: type[Exception] = BackendError
    late: bool = False
    more: Callable[[int], None] = lambda _: None

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        self.more(len(self.calls))
        if request.prompt.text.strip() in self.failing:
            self.calls.append(request)
            if self.late:
                await super().generate(request, sink)
            raise self.error("out of order")
        await super().generate(request, sink)


@dataclass
class Bench:
    """Makes configurations and backends, runs them, and remembers how far runs said they were."""

    path: Path
    progress: list[Progress] = field(default_factory=list)
    more: Callable[[int], None] = lambda _: None

    def configuration(self, *strategies: str, budgets: Sequence[str] = (), **more: Any) -> Configuration:
        """Ask for strategies of two samples, so that nothing is sized unless a test asks for it."""
        names = strategies or ("best_of_n",)
        values: dict[str, Any] = {
            "task": "toy", "problems": 6, "generator": "scripted", "verifier": "scripted",
            "contenders": [{"label": name, "strategy": name, "parameters": {"n": 2}} for name in names],
            "budgets": tuple(map(Budget.parse, budgets)) or (Budget(),),
        }  # fmt: skip
        return configure(**{**values, **more})

    def generator(self, *failing: str, error: type[Exception] = BackendError) -> Unreliable:
        return Unreliable(tree_script(), failing=failing, error=error, more=lambda call: self.more(call))

    async def run(
        self, configuration: Configuration, generator: ScriptedGenerator | None = None, *, retry_errors: bool = False
    ) -> Results:
        backends = Backends(generator or self.generator(), ScriptedVerifier())
        return await run_benchmark(
            configuration, backends, self.path, retry_errors=retry_errors, watch=self.progress.append
        )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Register the toy task, "scripted" and "failing:QUESTION;QUESTION" for a test."""
    bench = Bench(tmp_path / "results.jsonl")
    monkeypatch.setitem(registry._added["task"], "toy", Toy())
    monkeypatch.setitem(registry._added["generator"], "scripted", lambda rest: bench.generator())
    monkeypatch.setitem(registry._added["generator"], "failing", lambda rest: bench.generator(*rest.split(";")))
    monkeypatch.setitem(registry._added["verifier"], "scripted", lambda rest: ScriptedVerifier())
    return bench


class Ran(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


Tts = Callable[..., Ran]


@pytest.fixture
def tts(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tts:
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for variable in ("TTS_GENERATOR", "TTS_VERIFIER"):
        monkeypatch.delenv(variable, raising=False)

    def run(*argv: str) -> Ran:
        capsys.readouterr()
        code = main(argv)
        return Ran(code, *capsys.readouterr())

    return run
