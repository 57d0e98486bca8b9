"""Several verifiers as one: all asked and their values combined, or one after another until one is sure."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from tts.aggregation import Aggregation, aggregate
from tts.capabilities import VerifierCapabilities
from tts.errors import ParameterError, ScoreCountError, ScoreValueError, TransientError, VerifierError
from tts.groups import Tasks
from tts.protocols import PathScore, connect
from tts.verifiers.confidence import leading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import Path, Verifier

How = Literal["mean", "product", "minimum"]
Facts = dict[str, str | int | float | bool | None]


class Several:
    """What all that is made of several verifiers share: what they can do together, and asking one of them.

    All members score steps, or none does. With an `aggregation`, those that score steps are brought to one value a path
    first ("whole" gives them the path as a single step), and there is one value a path.

    A limit in dollars or FLOPs is metered at the highest rate of any member that reads tokens, because one number
    must do for all: where rates differ, what is charged is an upper bound. It is None, so that such a limit is
    refused, if one of these rates is not known.
    """

    def __init__(self, verifiers: Sequence[Verifier], aggregation: Aggregation | None, name: str, facts: Facts) -> None:
        """Take the members, and refuse those that do not go together as far as is known before `connect`.

        Raises:
            ParameterError: There are none, some score steps and others do not, or there is no such aggregation.
        """
        if not verifiers:
            raise ParameterError(f"{name} of no verifiers: give at least one")
        self._members = tuple(verifiers)
        if aggregation is not None and aggregation not in list(Aggregation):
            raise ParameterError(f"{name}: aggregation={aggregation!r}; there are {', '.join(Aggregation)}")
        self._aggregation = None if aggregation is None else Aggregation(aggregation)
        self._name = name
        self._facts = facts
        self._able: VerifierCapabilities | None = None
        # A member that asks a server first may not even have a name yet.
        if not any(hasattr(member, "connect") for member in self._members):
            self._able = self._agreed()

    async def connect(self) -> None:
        """Let every member find out what it can do.

        Raises:
            ParameterError: Some score steps and others do not.
        """
        async with Tasks() as tasks:
            for member in self._members:
                tasks.start_soon(connect, member)
        self._able = self._agreed()

    @property
    def capabilities(self) -> VerifierCapabilities:
        """What all of them can do; calls and further tokens add up.

        Raises:
            ParameterError: Some score steps and others do not.
        """
        if self._able is None:
            self._able = self._agreed()
        return self._able

    def _agreed(self) -> VerifierCapabilities:
        able = [member.capabilities for member in self._members]
        steps = self._stepwise(able)
        reading = [each for each in able if each.calls or each.extra_tokens]
        return VerifierCapabilities(
            name=f"{self._name}({', '.join(each.name for each in able)})",
            steps=steps,
            partial=all(each.partial for each in able),
            calls=sum(each.calls for each in able),
            extra_tokens=sum(each.extra_tokens for each in able),
            # Both, so that how many there are a token can be told whoever asked for more of them.
            logprobs=any(each.logprobs or each.top_logprobs for each in able),
            top_logprobs=max(each.top_logprobs for each in able),
            dollars_per_token=_highest([each.dollars_per_token for each in reading]),
            flops_per_token=_highest([each.flops_per_token for each in reading]),
            runtimes=tuple(loop for loop in able[0].runtimes if all(loop in each.runtimes for each in able)),
            fingerprint=self._fingerprint(able),
        )

    def _stepwise(self, able: Sequence[VerifierCapabilities]) -> bool:
        stepwise = [each.name for each in able if each.steps]
        if self._aggregation is None and 0 < len(stepwise) < len(able):
            raise ParameterError(
                f"{self._name}: {', '.join(stepwise)} score steps and the others whole paths: give aggregation=..., "
                "such as min, that makes one value of a path's steps"
            )
        if self._aggregation is not None and not stepwise:
            raise ParameterError(f"{self._name}: aggregation={self._aggregation}, but none scores steps: leave it out")
        return self._aggregation is None and bool(stepwise)

    def _fingerprint(self, able: Sequence[VerifierCapabilities]) -> Facts:
        facts: Facts = {"combined": self._name, **self._facts}
        if self._aggregation is not None:
            facts["aggregation"] = str(self._aggregation)
        for place, each in enumerate(able):
            facts[f"{place}.name"] = each.name
            facts |= {f"{place}.{name}": value for name, value in each.fingerprint.items()}
        return facts

    async def _ask(self, member: Verifier, paths: Sequence[Path]) -> list[PathScore]:
        """Return a member's word on each path, checked, and as one value where an aggregation is given.

        Raises:
            ScoreCountError: Another number of replies, or of values, than it was asked for.
            ScoreValueError: A value is not a finite number in [0, 1].
        """
        able = member.capabilities
        whole = able.steps and self._aggregation is Aggregation.WHOLE
        asked = [_as_wanted(path, able, whole) for path in paths]
        replies = list(await member.score(asked))
        if len(replies) != len(asked):
            raise ScoreCountError(
                f"verifier {able.name} was given {len(asked)} paths and returned {len(replies)} scores"
            )
        for path, reply in zip(asked, replies, strict=True):
            _check_values(able, path, reply)
        if self._aggregation is None or not able.steps:
            return replies
        return [replace(reply, values=[aggregate(reply.values, self._aggregation)]) for reply in replies]

    def _refuse_empty(self, paths: Sequence[Path]) -> None:
        for place, path in enumerate(paths):
            if not path.steps:
                raise VerifierError(
                    f"{self._name}: path {place} of {len(paths)} has no steps: there is nothing to judge"
                )

    async def aclose(self) -> None:
        """Release every member, the last first, also where one fails to; its error comes once all have been."""
        async with AsyncExitStack() as stack:
            for member in self._members:
                stack.push_async_callback(member.aclose)


class Combined(Several):
    """Asks several verifiers side by side, and makes one value of theirs, of a path or of each of its steps.

    "mean" is their weighted mean. "product" takes them for independent probabilities that all is well, and "minimum"
    goes by the one that thinks worst; both let one strict member rule. BoN-MAV (Lifshitz et al. 2025, arXiv 2502.20379)
    is the mean of verifiers that say yes or no.

    Fails where values mean different things: 0.9 of one member may be worth 0.5 of another, and none of the rules
    brings them to one scale.

    If one member fails, all of them are asked again. The runtime then counts the attempt that failed as one call a path
    and no tokens, whatever the others had read by then.
    """

    def __init__(
        self,
        verifiers: Sequence[Verifier],
        how: How = "mean",
        *,
        weights: Sequence[float] | None = None,
        aggregation: Aggregation | None = None,
    ) -> None:
        """Say whom to ask and how to combine what they say.

        Args:
            verifiers: They are connected and closed with this one.
            how: What is made of their values.
            weights: For the mean: one a verifier, finite, none below 0 and not all 0; None weighs all alike.
            aggregation: How a path's steps become one value, where some score steps and others whole paths.

        Raises:
            ParameterError: A parameter is out of range, or some verifiers score steps and others do not.
        """
        if how not in get_args(How):
            raise ParameterError(f"how={how!r}; there are {', '.join(get_args(How))}")
        self._how = how
        self._weights = _weights(weights, how, len(verifiers))
        facts: Facts = {f"{place}.weight": weight for place, weight in enumerate(weights or ())}
        super().__init__(verifiers, aggregation, how, facts)

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Ask all, and combine what they say of each path.

        Raises:
            ScoreCountError: A member gave another number of values than it was asked for.
            ScoreValueError: A value of a member is not a finite number in [0, 1].
            VerifierError: A path has no steps.
        """
        self._refuse_empty(paths)
        replies: dict[int, list[PathScore]] = {}

        async def ask(place: int) -> None:
            replies[place] = await self._ask(self._members[place], paths)

        try:
            async with Tasks() as tasks:
                for place in range(len(self._members)):
                    tasks.start_soon(ask, place)
        except TransientError as error:
            # Whatever this member says of itself, the others were asked too.
            error.began = error.began or len(self._members) > 1
            raise
        each = [replies[place] for place in range(len(self._members))]
        return [self._joined(said) for said in zip(*each, strict=True)]

    def _joined(self, said: Sequence[PathScore]) -> PathScore:
        values = [self._value(values) for values in zip(*(reply.values for reply in said), strict=True)]
        return PathScore(values, sum(reply.tokens for reply in said), sum(reply.calls for reply in said))

    def _value(self, values: Sequence[float]) -> float:
        if self._how == "product":
            return math.prod(values)
        if self._how == "minimum":
            return min(values)
        weighted = [weight * value for weight, value in zip(self._weights, values, strict=True)]
        # No term above is greater than the one below, and each sum is rounded once: the mean is never above 1.
        return math.fsum(weighted) / math.fsum(self._weights)


class Cascade(Several):
    """Asks verifiers one after another, cheap ones first, until one is sure; the last one's word is final.

    A value at most `low` or at least `high` is final; what is between goes to the next verifier, which sees only the
    paths that reach it. FrugalGPT (Chen et al. 2023, arXiv 2305.05176) does so with language models, cheap and dear.

    Where all score steps, each step's value is that of the first verifier that is sure of it, and a path goes on while
    one of its steps is unsure. To go by the last step alone would have a step's score hang on later ones, which it
    must not. Where that is wanted, give `aggregation` "last": one value a path, that of its last step, decides.

    Fails where a cheap verifier is sure and wrong: no later one is asked. Values of different verifiers stand side by
    side, so they should be on one scale. What is held for a path is what all members together can cost.

    If a member fails, all are asked again from the first on. The runtime then counts the attempt that failed as one
    call a path and no tokens.
    """

    def __init__(
        self,
        verifiers: Sequence[Verifier],
        sure: tuple[float, float] = (0.1, 0.9),
        *,
        aggregation: Aggregation | None = None,
    ) -> None:
        """Say whom to ask, in which order, and what is sure.

        Args:
            verifiers: Cheap ones first; they are connected and closed with this one.
            sure: (low, high), finite and low below high; a low below 0 never rejects, a high above 1 never accepts.
            aggregation: How a path's steps become one value, by which it is decided.

        Raises:
            ParameterError: A parameter is out of range, or some verifiers score steps and others do not.
        """
        self._low, self._high = sure
        if not (math.isfinite(self._low) and math.isfinite(self._high) and self._low < self._high):
            raise ParameterError(f"sure={sure}; expected two finite numbers, the first below the second")
        super().__init__(verifiers, aggregation, "cascade", {"low": self._low, "high": self._high})

    async def score(self, paths: Sequence[Path]) -> list[PathScore]:
        """Ask one verifier after another about what those before were not sure of.

        Raises:
            ScoreCountError: A member gave another number of values than it was asked for.
            ScoreValueError: A value of a member is not a finite number in [0, 1].
            VerifierError: A path has no steps.
        """
        self._refuse_empty(paths)
        first, *later = self._members
        verdicts = await self._ask(first, paths)
        for member in later:
            unsure = [place for place, verdict in enumerate(verdicts) if not all(map(self._sure, verdict.values))]
            if not unsure:
                break
            try:
                replies = await self._ask(member, [paths[place] for place in unsure])
            except TransientError as error:
                # Whatever this member says of itself, those before it were asked too.
                error.began = True
                raise
            for place, reply in zip(unsure, replies, strict=True):
                verdicts[place] = self._settled(verdicts[place], reply)
        return verdicts

    def _sure(self, value: float) -> bool:
        return not self._low < value < self._high

    def _settled(self, before: PathScore, reply: PathScore) -> PathScore:
        pairs = zip(before.values, reply.values, strict=True)
        values = [old if self._sure(old) else new for old, new in pairs]
        return PathScore(values, before.tokens + reply.tokens, before.calls + reply.calls)


def _weights(weights: Sequence[float] | None, how: How, count: int) -> list[float]:
    """Return weights of which the greatest is 1, so that no sum of them overflows."""
    if weights is None:
        return [1.0] * count
    if how != "mean":
        raise ParameterError(f"weights={list(weights)} have no meaning for how={how!r}: leave them out")
    if len(weights) != count:
        raise ParameterError(f"{len(weights)} weights for {count} verifiers")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ParameterError(f"weights={list(weights)}; expected finite numbers, none below 0 and not all 0")
    return [weight / max(weights) for weight in weights]


def _highest(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return max(known, default=0.0) if len(known) == len(rates) else None


def _as_wanted(path: Path, able: VerifierCapabilities, whole: bool) -> Path:
    """Return the path as this verifier wants it: in a single step or not, with as many top log-probabilities."""
    if whole:
        path = replace(path, steps=("".join(path.steps),))
    if able.top_logprobs and path.top_logprobs:
        top = leading(path.top_logprobs, len(path.logprobs or ()), able.top_logprobs)
        if top is not path.top_logprobs:
            path = replace(path, top_logprobs=tuple(top))
    return path


def _check_values(able: VerifierCapabilities, path: Path, reply: PathScore) -> None:
    """Refuse what the combination could hide: a minimum may pass over a value that is no number."""
    wanted = len(path.steps) if able.steps else 1
    if len(reply.values) != wanted:
        raise ScoreCountError(f"verifier {able.name}: {wanted} steps, but {len(reply.values)} scores")
    for place, value in enumerate(reply.values):
        if not 0 <= value <= 1:
            raise ScoreValueError(f"verifier {able.name}: score {place} is {value!r}; expected a probability in [0, 1]")
