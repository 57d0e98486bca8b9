"""Strategies drawn: a scripted dry run is recorded and folded by call site into a graph of operators."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from tts.aggregation import Aggregation
from tts.budget import Budget
from tts.fakes import ScriptedGenerator, ScriptedVerifier, tree_script
from tts.graph import Node
from tts.protocols import Strategy
from tts.runtime import run_sync
from tts.search import Search
from tts.setup import prepare
from tts.solve import solve_prepared

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from types import FrameType

    from tts.arrivals import Arrivals, Nodes, Order
    from tts.budget import Ledger
    from tts.protocols import Verifier
    from tts.run import Run
    from tts.search import Scored
    from tts.selection import Answer
    from tts.types import Sampling

T = TypeVar("T")
DRY_RUN = Budget(samples=2048)
"""Enough for any strategy to go round its loops; ends a dry run that would be a long one."""


class Site(NamedTuple):
    """A place in a strategy's source that calls a verb."""

    file: str
    line: int
    function: str
    verb: str


@dataclass(slots=True)
class Operator:
    """All calls from one site.

    `settings` holds, for each argument, the distinct values that it had, in order of appearance.
    """

    site: Site
    calls: int = 0
    parents: list[int] = field(default_factory=list)
    settings: dict[str, list[object]] = field(default_factory=dict)


START, END = -1, -2
"""Ends of the first and of the last edges."""


@dataclass(slots=True)
class Drawing:
    """Operators in the order of their first call, and how often one followed another."""

    operators: list[Operator] = field(default_factory=list)
    edges: Counter[tuple[int, int]] = field(default_factory=Counter)
    note: str = ""
    _places: dict[Site, int] = field(default_factory=dict)

    def add(self, site: Site, parents: int, settings: dict[str, object]) -> int:
        """Count a call; return its operator's place."""
        place = self._places.setdefault(site, len(self.operators))
        if place == len(self.operators):
            self.operators.append(Operator(site))
        operator = self.operators[place]
        operator.calls += 1
        operator.parents.append(parents)
        for name, value in settings.items():
            seen = operator.settings.setdefault(name, [])
            if value not in seen:
                seen.append(value)
        return place

    def text(self) -> str:
        """Draw as text: one operator below the other, arrows to the next, and jumps back and forth beside them."""
        lines = ["start", *self._arrows(START)]
        for place, operator in enumerate(self.operators):
            lines += [f"[{place + 1}] {_title(operator)}", f"    {_subtitle(operator)}", *self._arrows(place)]
        return "\n".join([*lines, "answer", *([self.note] if self.note else [])])

    def _arrows(self, place: int) -> list[str]:
        following = place + 1 if place + 1 < len(self.operators) else END
        jumps = {
            target: count
            for (source, target), count in sorted(self.edges.items())
            if source == place and target != following
        }
        lines = [f" ├─ {_jump(place, target)} ×{count}" for target, count in jumps.items()]
        if count := self.edges[place, following]:
            return [*lines, f" ↓ ×{count}"]
        return [*lines, ""]


def _jump(place: int, target: int) -> str:
    if target == END:
        return "→ answer"
    return f"{'↺ back to' if target <= place else '→ on to'} [{target + 1}]"


def _title(operator: Operator) -> str:
    return f"{operator.site.verb}({', '.join(_setting(*setting) for setting in operator.settings.items())})"


def _setting(name: str, values: list[object]) -> str:
    return name if len(values) == 1 and values[0] is True else f"{name}={_values(values)}"


def _subtitle(operator: Operator) -> str:
    low, high = min(operator.parents), max(operator.parents)
    nodes = f"{low}" if low == high else f"{low}..{high}"
    times = "once" if operator.calls == 1 else f"{operator.calls} times"
    site = operator.site
    return f"{times}, on {nodes} node{'' if nodes == '1' else 's'}; {site.file}:{site.line} in {site.function}"


def _values(values: Sequence[object]) -> str:
    numbers = sorted(value for value in values if isinstance(value, int))
    if len(values) > 2 and len(numbers) == len(values):
        return f"{numbers[0]}..{numbers[-1]}"
    return "|".join(map(str, values))


class _Recorder(Search):
    """A search that notes who calls which verb.

    `_last` holds the operators whose results the next call works on: the one before it, or, after a split, the last of
    each part.
    """

    def __init__(
        self, run: Run, root: Node, ledger: Ledger, critical_path: int, drawing: Drawing, last: list[int]
    ) -> None:
        super().__init__(run, root, ledger, critical_path)
        self._drawing = drawing
        self._last = last
        self._parts: list[_Recorder] = []

    def _note(self, nodes: Nodes, verb: str, **settings: object) -> int:
        parents = 1 if isinstance(nodes, Node) else len(nodes)
        site = _site(sys._getframe(2), verb)
        place = self._drawing.add(site, parents, {name: value for name, value in settings.items() if value})
        self._link(place)
        self._last = [place]
        return place

    def _link(self, place: int) -> None:
        for source in self._last:
            self._drawing.edges[source, place] += 1

    def expand(
        self, nodes: Nodes, n: int = 1, *, whole: bool = False, scored: Scored = False, sampling: Sampling | None = None
    ) -> Coroutine[Any, Any, list[Node]]:
        """Note and expand."""
        self._note(nodes, "expand", n=n, whole=whole, scored=scored)
        return super().expand(nodes, n, whole=whole, scored=scored, sampling=sampling)

    def arrivals(
        self, nodes: Nodes, n: int = 1, *, whole: bool = False, scored: Scored = False,
        sampling: Sampling | None = None, order: Order = "key",
    ) -> Arrivals:  # fmt: skip
        """Note and open the block, whose `extend` is noted as well."""
        self._note(nodes, "arrivals", n=n, whole=whole, scored=scored, order=order)
        block = super().arrivals(nodes, n, whole=whole, scored=scored, sampling=sampling, order=order)
        extend = block.extend

        def noted(more: Nodes, count: int = 1) -> None:
            self._note(more, "extend", n=count)
            extend(more, count)

        block.__dict__["extend"] = noted
        return block

    def score(
        self, nodes: Sequence[Node], how: Aggregation = Aggregation.LAST, *, by: Verifier | None = None
    ) -> Coroutine[Any, Any, list[Node]]:
        """Note and score."""
        self._note(nodes, "score", how=how, by=by and by.capabilities.name)
        return super().score(nodes, how, by=by)

    def transform(self, node: Node, text: str) -> Coroutine[Any, Any, Node]:
        """Note and transform."""
        self._note(node, "transform")
        return super().transform(node, text)

    def split(self, n: int, body: Callable[[Search], Awaitable[T]]) -> Coroutine[Any, Any, list[T]]:
        """Note and split."""
        self._note(self.root, "split", n=n)
        return self._split(n, body)

    async def _split(self, n: int, body: Callable[[Search], Awaitable[T]]) -> list[T]:
        self._parts = []
        results = await super().split(n, body)
        self._last = [place for part in self._parts for place in part._last] or self._last
        return results

    def _branch(self, ledger: Ledger) -> Search:
        plain = super()._branch(ledger)
        part = _Recorder(self.run, plain.root, ledger, plain.critical_path, self._drawing, list(self._last))
        self._parts.append(part)
        return part


def _site(frame: FrameType, verb: str) -> Site:
    return Site(Path(frame.f_code.co_filename).name, frame.f_lineno, frame.f_code.co_name, verb)


class _Recorded(Strategy):
    """Runs another strategy on a recorder."""

    name: ClassVar[str] = "recorded"
    inner: Any
    drawing: Any

    async def search(self, s: Search) -> Answer:
        """Run it, and link its last calls to the answer."""
        recorder = _Recorder(s.run, s.root, s.ledger, 0, self.drawing, [START])
        answer: Answer = await self.inner.search(recorder)
        recorder._link(END)
        return answer


def dry_run(strategy: Strategy) -> Drawing:
    """Run a strategy once on scripted fakes, and fold what it did by call site."""
    drawing = Drawing()

    async def work() -> None:
        setup = await prepare(
            {
                "strategy": strategy,
                "generator": ScriptedGenerator(tree_script()),
                "verifier": ScriptedVerifier(),
                "budget": DRY_RUN,
            }
        )
        recorded = _Recorded(inner=strategy, drawing=drawing)
        outcome, error = await solve_prepared(replace(setup, strategy=recorded), "What is drawn?")
        if error is not None:
            drawing.note = f"the dry run ended early: {outcome.error}"

    run_sync(work)
    return drawing


def draw(strategy: Strategy) -> str:
    """Draw a strategy's operators: from its notation where it has one, else from a dry run."""
    described = getattr(strategy, "describe", None)
    if callable(described):
        return str(described())
    return dry_run(strategy).text()
