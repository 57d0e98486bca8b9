"""A language model that compares two solutions, in both orders; rankings and winners made of such comparisons.

This is no verifier: what it says of a solution hangs on the other one, which clause V4 of `Verifier` forbids, since the
scores that a search keeps would then hang on which paths happened to be scored together. It is for choosing among
candidates that are all there, such as those of an outcome; what it costs is counted here, and charged to no budget:

    judge = Pairwise(VLLMScorer("http://localhost:8000"))
    await judge.connect()
    texts = [candidate.text for candidate in outcome.candidates if candidate.answer is not None]
    chosen = await best(judge, problem.messages, texts)
"""

from __future__ import annotations

from itertools import combinations
from math import fsum
from typing import TYPE_CHECKING, Literal, Protocol

from tts.errors import ParameterError
from tts.verifiers.asking import Reader, each
from tts.verifiers.verdicts import ComparePrompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import Scorer
    from tts.types import Message

Rule = Literal["round_robin", "knockout"]


class Comparer(Protocol):
    """Says which of two solutions is better.

    `compare(a, b)` and `compare(b, a)` sum to 1.
    """

    async def compare(self, messages: Sequence[Message], first: str, second: str) -> float:
        """Return the probability in [0, 1] that the first is better than the second, as answers to `messages`."""


class Pairwise:
    """Asks a language model which of two solutions is better, in both orders.

    A comparison is two questions, with either solution shown first; the score is the mean of the probabilities that
    both give to the first solution, P(first) / (P(first) + P(second)) of the next token. Judges prefer a place whatever
    lies in it (Judging LLM-as-a-Judge, arXiv 2306.05685); in the mean such a preference cancels where it is alike in
    both orders, and equal texts get a half. The paper takes orders that disagree as a tie; a mean keeps how sure they
    are.

    Where it is known to fail: a judge that sees the places only gives a half to everything; preferences need not be
    transitive; and what `Generative` says of judges.

    Attributes:
        calls: Questions asked so far.
        tokens: Tokens read for them.
    """

    def __init__(self, scorer: Scorer, prompt: ComparePrompt | None = None) -> None:
        """Say who compares; `prompt` is what it is told, None is `ComparePrompt()`."""
        self.calls = 0
        self.tokens = 0
        self._prompt = prompt or ComparePrompt()
        self._reader = Reader(scorer, self._prompt.first, self._prompt.second)

    async def connect(self) -> None:
        """Let the scorer find out what it can do.

        Raises:
            NeedsError: It gives no labels.
            ParameterError: A label is not one token, or both are the same one.
        """
        await self._reader.connect()

    async def compare(self, messages: Sequence[Message], first: str, second: str) -> float:
        """Return the probability that the first is better, as the mean over both orders.

        Raises:
            ParameterError: One says nothing, or both do not fit; nothing has been sent then.
            ScoreCountError: The scorer did not answer both questions.
            ScoreValueError: It answered with something that is no probability.
            BackendError: It failed; a TransientError where that may pass.
        """
        for place, text in (("first", first), ("second", second)):
            if not text.strip():
                raise ParameterError(f"the {place} of two solutions says nothing: there is nothing to compare")
        orders = [self._prompt.conversation(messages, *texts) for texts in ((first, second), (second, first))]
        starts = await self._reader.encode(orders)
        said = self._prompt.skip + self._prompt.cue
        cue = (await self._reader.tokenize([said]))[said]
        sequences = [[*starts[order], *cue] for order in orders]
        for ids in sequences:
            self._reader.check_room(len(ids), f"solutions that begin {first[:40]!r} and {second[:40]!r}")
        self.calls += 2
        self.tokens += sum(map(len, sequences))
        shown_first, shown_second = await self._reader.read(sequences)
        # In this form equal texts get a half exactly.
        return 0.5 + (shown_first - shown_second) / 2

    async def aclose(self) -> None:
        """Release the scorer."""
        await self._reader.scorer.aclose()


async def rank(comparer: Comparer, messages: Sequence[Message], texts: Sequence[str]) -> list[float]:
    """Return how each solution does against all others: the mean probability that it is better than another one.

    A round robin, which asks about each pair once, n (n - 1) / 2 comparisons for n solutions, side by side. One
    solution alone has nothing to win against.

    Raises:
        ParameterError: There are fewer than two; or as `compare` does, as for all else.
    """
    if len(texts) < 2:
        raise ParameterError(f"{len(texts)} solutions cannot be ranked: there must be two at least")

    async def play(pair: tuple[int, int]) -> float:
        return await comparer.compare(messages, texts[pair[0]], texts[pair[1]])

    won: list[list[float]] = [[] for _ in texts]
    for (one, other), chance in (await each(play, combinations(range(len(texts)), 2))).items():
        won[one].append(chance)
        won[other].append(1 - chance)
    return [fsum(chances) / len(chances) for chances in won]


async def best(
    comparer: Comparer, messages: Sequence[Message], texts: Sequence[str], rule: Rule = "round_robin"
) -> int:
    """Return the place of the best solution; of equal ones the first.

    "round_robin" takes the one that `rank` puts highest. "knockout" plays rounds of neighbours, whose winners go on, so
    n - 1 comparisons for n solutions; one without a neighbour goes on without playing. It is cheaper, and one wrong
    comparison can throw the best one out. A single solution is the best one, and nothing is asked.

    Raises:
        ParameterError: There is none, or no such rule; or as `compare` does, as for all else.
    """
    if not texts:
        raise ParameterError("there are no solutions to choose from")
    if rule not in ("round_robin", "knockout"):
        raise ParameterError(f"rule is {rule!r}; it is 'round_robin' or 'knockout'")
    if len(texts) == 1:
        return 0
    if rule == "knockout":
        return await _knockout(comparer, messages, texts)
    scores = await rank(comparer, messages, texts)
    return max(range(len(texts)), key=lambda place: (scores[place], -place))


async def _knockout(comparer: Comparer, messages: Sequence[Message], texts: Sequence[str]) -> int:
    async def play(pair: tuple[int, ...]) -> int:
        if len(pair) == 1:
            return pair[0]
        one, other = pair
        return one if await comparer.compare(messages, texts[one], texts[other]) >= 0.5 else other

    standing = list(range(len(texts)))
    while len(standing) > 1:
        pairs = [tuple(standing[place : place + 2]) for place in range(0, len(standing), 2)]
        winners = await each(play, pairs)
        standing = [winners[pair] for pair in pairs]
    return standing[0]
