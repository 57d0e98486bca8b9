"""Best-of-N: draw N whole answers and let the verifier choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tts.aggregation import Aggregation
from tts.protocols import Needs, Strategy
from tts.selection import Answer, best
from tts.voting import vote, weight_by_score

if TYPE_CHECKING:
    from tts.search import Search


class BestOfN(Strategy):
    """Draw N whole answers; choose the best scored, or the answer with the greatest sum of scores.

    Best-of-N with a verifier: Cobbe et al. 2021 (arXiv 2110.14168). Weighted: Li et al. 2023 (arXiv 2206.02336), the
    sum over equal answers of their scores. search-and-learn (huggingface) uses the last step's score, as the default
    here. Departures: answers are grouped by equivalence, unparseable ones do not vote (there they do), ties go to the
    first sample in key order, and equal texts are scored once but each counts.

    Needs a verifier; partial scores and continuation it does not need.
    """

    name: ClassVar[str] = "best_of_n"

    n: int = Field(default=16, ge=1, le=65536, description="whole answers drawn")
    selection: Literal["naive", "weighted"] = Field(
        default="naive", description="naive: the best scored; weighted: the answer with the greatest sum of scores"
    )
    aggregation: Aggregation = Field(default=Aggregation.LAST, description="how step scores become one")

    @property
    def needs(self) -> Needs:
        """A verifier."""
        return Needs(verifier=True)

    async def search(self, s: Search) -> Answer:
        """Draw, score, choose."""
        pool = await s.expand(s.root, self.n, whole=True, scored=self.aggregation)
        return best(pool) if self.selection == "naive" else vote(pool, weight_by_score)
