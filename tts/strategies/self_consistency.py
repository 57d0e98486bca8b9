"""Self-consistency: draw N whole answers and take a vote, stopping early once the vote is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tts.aggregation import Aggregation
from tts.protocols import Needs, Strategy
from tts.voting import ballots, leader_confidence, one, vote, weight_by_likelihood, weight_by_score

if TYPE_CHECKING:
    from tts.graph import Node
    from tts.search import Search
    from tts.selection import Answer, Value

_WEIGHTS: dict[str, Value] = {"count": one, "score": weight_by_score, "likelihood": weight_by_likelihood}


class SelfConsistency(Strategy):
    """Draw N whole answers; the answer that most of them agree on wins.

    Wang et al. 2023 (arXiv 2203.11171). Adaptive stopping is Adaptive-Consistency's Beta criterion (Aggarwal et al.
    2023, arXiv 2305.11860): all N are in flight, and once the leader is ahead of the runner-up with probability
    `confidence` the rest are cancelled. Departures: votes are counted in key order rather than in order of arrival,
    so that the answer does not hang on timing; unparseable answers do not vote; ties go to the answer seen first.

    Needs nothing; weights by score need a verifier, weights by likelihood need log-probabilities.
    """

    name: ClassVar[str] = "self_consistency"

    n: int = Field(default=16, ge=1, le=65536, description="whole answers drawn at most")
    weights: Literal["count", "score", "likelihood"] = Field(default="count", description="what a vote weighs")
    stopping: Literal["none", "beta"] = Field(default="none", description="beta: stop once the leader is sure enough")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="how sure, for beta stopping")

    @property
    def needs(self) -> Needs:
        """What the weights need."""
        return Needs(verifier=self.weights == "score", logprobs=self.weights == "likelihood")

    async def search(self, s: Search) -> Answer:
        """Draw until N or decided, then vote."""
        scored = Aggregation.LAST if self.weights == "score" else False
        pool: list[Node] = []
        if self.stopping == "none":
            pool = await s.expand(s.root, self.n, whole=True, scored=scored)
        else:
            async with s.arrivals(s.root, self.n, whole=True, scored=scored) as arriving:
                async for candidate in arriving:
                    pool.append(candidate)
                    if self._decided(pool):
                        break
        return vote(pool, _WEIGHTS[self.weights])

    def _decided(self, pool: list[Node]) -> bool:
        votes = sorted((len(members) for members in ballots(pool).values()), reverse=True)
        if sum(votes) < 2:
            return False
        return leader_confidence(votes[0], votes[1] if len(votes) > 1 else 0) >= self.confidence
