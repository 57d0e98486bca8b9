"""Strategies on one line: `generate(16) >> score() >> best()`, `loop(expand(4) >> score() >> keep(4)) >> best()`.

Operators take candidates and give candidates; `>>` puts them one after another, `loop` and `subtrees` nest them, and
`best` or `vote` ends in an answer. What cannot work is refused when it is built. They compile onto the verbs of a
search: a `score` right behind `expand` or `generate` is fused with it, so that tokens and verifier calls are held
together and scoring overlaps with sampling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from tts.aggregation import Aggregation
from tts.errors import ParameterError
from tts.graph import Status
from tts.protocols import Needs, Strategy
from tts.resampling import Scheme, WeightMap, log_weight, softmax
from tts.resampling import resample as resample_places
from tts.selection import Answer, Ranked
from tts.selection import best as best_of
from tts.selection import keep as keep_best
from tts.types import Frozen
from tts.voting import one, weight_by_score
from tts.voting import vote as vote_among

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.graph import Node
    from tts.search import Search

Candidates = list["Node"]


class Operator(Frozen):
    """One step of a pipeline: `async (search, candidates) -> candidates`."""

    name: ClassVar[str]
    draws: ClassVar[bool] = False
    reads_scores: ClassVar[bool] = False

    async def run(self, s: Search, candidates: Candidates) -> Candidates:
        """Turn candidates into candidates."""
        raise NotImplementedError

    def __rshift__(self, after: Operator) -> Pipeline:
        return pipe(self, after)

    def lines(self) -> list[str]:
        """Draw the operator, a line for itself and for each inside it."""
        given = [f"{key}={value}" for key, value in self.model_dump(exclude_defaults=True, mode="json").items()]
        return [f"{self.name}({', '.join(given)})"]


class Draw(Operator):
    """Draws children of every open candidate; the finished are passed on by a loop, not here."""

    draws: ClassVar[bool] = True

    n: int = Field(ge=1, le=65536)
    whole: bool = False
    scored: Aggregation | None = None

    @property
    def name(self) -> str:  # type: ignore[override]  # an operator's name follows from what it draws
        """Which of the two verbs."""
        return "generate" if self.whole else "expand"

    async def run(self, s: Search, candidates: Candidates) -> Candidates:
        """Draw, and score in the same batch where fused."""
        return await s.expand(candidates, self.n, whole=self.whole, scored=self.scored or False)


class Score(Operator):
    """Scores every candidate; those that the budget has no call for are dropped."""

    name: ClassVar[str] = "score"

    how: Aggregation = Aggregation.LAST

    async def run(self, s: Search, candidates: Candidates) -> Candidates:
        """Score."""
        return await s.score(candidates, self.how)


class Keep(Operator):
    """Keeps the best n; finished candidates compete."""

    name: ClassVar[str] = "keep"
    reads_scores: ClassVar[bool] = True

    n: int = Field(ge=1)

    async def run(self, s: Search, candidates: Candidates) -> Candidates:
        """Keep."""
        return keep_best(candidates, self.n)


class Resample(Operator):
    """Draws as many candidates with replacement, in proportion to what their scores weigh."""

    name: ClassVar[str] = "resample"
    reads_scores: ClassVar[bool] = True

    scheme: Scheme = Scheme.MULTINOMIAL
    weights: WeightMap = WeightMap.LOGIT

    async def run(self, s: Search, candidates: Candidates) -> Candidates:
        """Resample; an empty batch stays empty."""
        random = s.random()
        if not candidates:
            return []
        weights = [log_weight(node.score or 0.0, self.weights) for node in candidates]
        places = resample_places(softmax(weights), len(candidates), self.scheme, random)
        return [candidates[place] for place in places]


class Nested(Operator):
    """An operator around others."""

    body: tuple[SerializeAsAny[Operator], ...]

    def lines(self) -> list[str]:
        """Draw the body, indented."""
        return [f"{self.name}(", *(f"  {line}" for step in self.body for line in step.lines()), ")"]


class Loop(Nested):
    """Repeats its body on the candidates that are still open, until none is or nothing more is affordable."""

    name: ClassVar[str] = "loop"
    draws: ClassVar[bool] = True

    async def run(self, s: Search, candidates: Candidates) -> Candidates:
        """Return every candidate that finished on the way, kept or not, and those left open at the end."""
        finished = [node for node in candidates if node.done]
        live = [node for node in candidates if not node.done]
        while live:
            seen = len(s.run.graph)
            after = await run_all(self.body, s, live)
            finished += drawn_since(s, seen)
            following = [node for node in after if not node.done]
            if s.exhausted and not following:
                break
            live = following
        return [*finished, *live]


class Subtrees(Nested):
    """Runs its body on n sub-searches side by side, each from the root with its own share of the budget."""

    name: ClassVar[str] = "subtrees"
    draws: ClassVar[bool] = True

    n: int = Field(ge=1, le=4096)

    async def run(self, s: Search, candidates: Candidates) -> Candidates:
        """Return what all of them found."""
        parts = await s.split(self.n, lambda part: run_all(self.body, part, [part.root]))
        return [node for part in parts for node in part]


class Choose(Operator):
    """Ends a pipeline: the best scored candidate, or the answer with most votes."""

    rule: Literal["best", "vote"]
    weights: Literal["count", "score"] = "count"

    @property
    def name(self) -> str:  # type: ignore[override]  # an operator's name follows from its rule
        """Which of the two."""
        return self.rule

    def answer(self, candidates: Candidates) -> Answer:
        """Choose."""
        if self.rule == "best":
            return best_of(candidates)
        return vote_among(candidates, one if self.weights == "count" else weight_by_score)


class Pipeline(Strategy):
    """Operators one after another, ending in a choice."""

    name: ClassVar[str] = "pipeline"

    operators: tuple[SerializeAsAny[Operator], ...]

    def __rshift__(self, after: Operator) -> Pipeline:
        return pipe(*self.operators, after)

    @property
    def needs(self) -> Needs:
        """What its operators need, nested ones included."""
        flat = list(_flatten(self.operators))
        scores = any(isinstance(op, Score) or (isinstance(op, Draw) and op.scored) for op in flat)
        stepwise = any(isinstance(op, Draw) and not op.whole for op in flat)
        return Needs(verifier=scores, partial_scores=scores and stepwise, continuation=stepwise)

    def describe(self) -> str:
        """Draw the pipeline as text, an operator a line."""
        return "\n".join(line for op in self.operators for line in op.lines())

    async def search(self, s: Search) -> Answer:
        """Run the operators from the root.

        Raises:
            ParameterError: The pipeline does not end in best() or vote().
        """
        last = self.operators[-1]
        if not isinstance(last, Choose):
            raise ParameterError("a pipeline ends in best() or vote(), so that there is an answer")
        candidates = await run_all(self.operators[:-1], s, [s.root])
        answer = last.answer(candidates)
        return answer if answer.chosen is not None else Answer(None, tuple(map(Ranked, candidates)))


async def run_all(operators: Sequence[Operator], s: Search, candidates: Candidates) -> Candidates:
    """Run operators one after another."""
    for operator in operators:
        candidates = await operator.run(s, candidates)
    return candidates


def drawn_since(s: Search, seen: int) -> Candidates:
    """Return what finished under this search's root since the graph had `seen` nodes, in key order."""
    depth = len(s.root.key)
    new = s.run.graph.nodes[seen:]
    mine = [node for node in new if node.key[:depth] == s.root.key and node.status is Status.FINISHED]
    return sorted(mine, key=lambda node: node.key)


def pipe(*parts: Operator) -> Pipeline:
    """Put operators one after another, fusing each `score` with the drawing before it.

    Raises:
        ParameterError: The order cannot work; says why.
    """
    fused: list[Operator] = []
    for part in parts:
        before = fused[-1] if fused else None
        if isinstance(part, Score) and isinstance(before, Draw) and before.scored is None:
            fused[-1] = before.model_copy(update={"scored": part.how})
        else:
            fused.append(part)
    _check(fused, scored=False)
    return Pipeline(operators=tuple(fused))


def _check(operators: Sequence[Operator], *, scored: bool) -> None:
    if operators and not operators[0].draws and not scored:
        first = operators[0].name
        raise ParameterError(f"{first}() has nothing to work on: begin with generate, expand, loop or subtrees")
    for place, operator in enumerate(operators):
        if isinstance(operator, Choose) and place < len(operators) - 1:
            raise ParameterError(f"{operator.name}() ends a pipeline; {operators[place + 1].name}() cannot follow it")
        if isinstance(operator, Subtrees) and place:
            raise ParameterError("subtrees() begins at the root: it comes first, and not inside a loop")
        if _reads_scores(operator) and not scored:
            raise ParameterError(f"{operator.name}() reads scores: put score() before it")
        scored = (scored and not operator.draws) or gives_scores(operator)


def _reads_scores(operator: Operator) -> bool:
    if isinstance(operator, Choose):
        return operator.rule == "best" or operator.weights == "score"
    return operator.reads_scores


def gives_scores(operator: Operator) -> bool:
    """Whether every candidate that comes out of it has a score."""
    if isinstance(operator, Nested):
        return any(gives_scores(inner) for inner in operator.body)
    return isinstance(operator, Score) or (isinstance(operator, Draw) and operator.scored is not None)


def _flatten(operators: Sequence[Operator]) -> list[Operator]:
    nested = [op for outer in operators if isinstance(outer, Nested) for op in _flatten(outer.body)]
    return [*operators, *nested]


def _body(what: str, body: Pipeline | Operator) -> tuple[Operator, ...]:
    operators = body.operators if isinstance(body, Pipeline) else (body,)
    if not any(op.draws for op in operators):
        raise ParameterError(f"{what}() around operators that draw nothing would never end")
    if what == "loop" and any(isinstance(op, Subtrees) for op in operators):
        raise ParameterError("subtrees() begins at the root: a loop around it would never end")
    if any(isinstance(op, Choose) for op in operators):
        raise ParameterError(f"{what}() goes on: put best() or vote() behind it, not inside")
    return operators


def generate(n: int) -> Draw:
    """Draw n whole continuations of each candidate."""
    return Draw(n=n, whole=True)


def expand(n: int) -> Draw:
    """Draw n next steps of each candidate."""
    return Draw(n=n)


def score(how: Aggregation | str = Aggregation.LAST) -> Score:
    """Score each candidate; `how` turns step scores into one."""
    return Score(how=Aggregation(how))


def keep(n: int) -> Keep:
    """Keep the n best scored."""
    return Keep(n=n)


def resample(scheme: Scheme | str = Scheme.MULTINOMIAL, weights: WeightMap | str = WeightMap.LOGIT) -> Resample:
    """Resample as many as there are."""
    return Resample(scheme=Scheme(scheme), weights=WeightMap(weights))


def loop(body: Pipeline | Operator) -> Loop:
    """Repeat while candidates are open."""
    return Loop(body=_body("loop", body))


def subtrees(n: int, body: Pipeline | Operator) -> Subtrees:
    """Run n copies of the body side by side on equal shares of the budget."""
    return Subtrees(n=n, body=_body("subtrees", body))


def best() -> Choose:
    """End in the best scored candidate."""
    return Choose(rule="best")


def vote(weights: Literal["count", "score"] = "count") -> Choose:
    """End in the answer with most votes, or with the greatest sum of scores."""
    return Choose(rule="vote", weights=weights)
