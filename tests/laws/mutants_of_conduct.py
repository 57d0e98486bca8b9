"""Runtimes that break laws 4 to 8: steps, verifiers, cancellation, errors, answers."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio

from tests.laws.mutants import mutant
from tests.laws.subjects import small
from tts import arrivals, batch, outcome, sampler, scoring, setup, voting
from tts.errors import BackendError
from tts.graph import Node, Status
from tts.protocols import GenerationRequest, PathScore
from tts.retry import call_with_retry
from tts.sampler import Sampler
from tts.selection import Answer
from tts.strategies import self_consistency
from tts.types import Completion, Finish

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest import MonkeyPatch as Patch

    from tts.batch import Group
    from tts.run import Run
    from tts.search import Search


@mutant(4, small("beam"))
def takes_a_cut_for_an_end(patch: Patch) -> None:
    real = batch._status
    patch.setattr(
        batch, "_status", lambda run, node, finish: real(run, node, Finish.EOS if finish is Finish.LENGTH else finish)
    )


@mutant(4, small("beam"))
def looks_at_the_text(patch: Patch) -> None:
    real = batch._status

    def status(run: Run, node: Node, finish: Finish) -> Status:
        return Status.FINISHED if "answer" in node.text else real(run, node, finish)

    patch.setattr(batch, "_status", status)


@mutant(4, small("beam"))
def strips_delimiters(patch: Patch) -> None:
    real = batch.make_node

    def make_node(run: Run, group: Group, place: int, completion: Completion) -> Node:
        return real(run, group, place, replace(completion, text=completion.text.rstrip("\n")))

    patch.setattr(sampler, "make_node", make_node)


@mutant(4, small("beam"))
def sends_text_for_ids(patch: Patch) -> None:
    real = GenerationRequest
    patch.setattr(sampler, "GenerationRequest", lambda **given: real(**{**given, "token_ids": ()}))


@mutant(4, small("beam"))
def keeps_empty_steps(patch: Patch) -> None:
    patch.setattr(sampler, "is_empty", lambda completion, sampling: False)


# Law 5: verifiers.


@mutant(5, small("best_of_n"))
def pads_missing_scores_with_zero(patch: Patch) -> None:
    real = scoring.check_replies

    def padded(verifier: str, given: Any, wanted: int) -> Any:
        return real(verifier, [*given, *[PathScore([0.0] * 9)] * (wanted - len(given))], wanted)

    patch.setattr(scoring, "check_replies", padded)
    patch.setattr(scoring, "check_scores", lambda *given: None)


@mutant(5, small("best_of_n"))
def takes_nan_for_zero(patch: Patch) -> None:
    real = scoring.check_scores

    def lenient(verifier: str, node: Node, reply: PathScore, wanted: int) -> None:
        values = [0.0 if value != value else value for value in reply.values]
        real(verifier, node, PathScore(values, reply.tokens), wanted)

    patch.setattr(scoring, "check_scores", lenient)


@mutant(5, small("best_of_n"))
def fails_without_a_type(patch: Patch) -> None:
    patch.setattr(scoring, "check_replies", lambda verifier, given, wanted: list(given))


@mutant(5, small("best_of_n"), 2)
def loses_tokens_with_the_verifier(patch: Patch) -> None:
    real = outcome.measure

    def measure(search: Search, seconds: float) -> Any:
        usage = real(search, seconds)
        broken = any(node.score is None for node in search.run.graph if node.parent is not None)
        return usage.model_copy(update={"generated": 0}) if broken else usage

    patch.setattr(import_module("tts.solve"), "measure", measure)


# Law 6: cancellation.


@mutant(6, small("beam"))
def does_not_abort(patch: Patch) -> None:
    real = Sampler._ask

    async def shielded(self: Sampler, group: Group, offset: int, count: int) -> None:
        with anyio.CancelScope(shield=True):
            await real(self, group, offset, count)

    patch.setattr(Sampler, "_ask", shielded)


@mutant(6, small("beam"))
def keeps_its_permit(patch: Patch) -> None:
    real = Sampler.sample

    async def sample(self: Sampler, group: Group) -> None:
        self._run.limiter.taken += 1
        await real(self, group)
        self._run.limiter.taken -= 1

    patch.setattr(Sampler, "sample", sample)


@mutant(6, small("beam"))
def keeps_its_holds(patch: Patch) -> None:
    patch.setattr(arrivals.Arrivals, "_settle", lambda self: None)


@mutant(6, small("best_of_n"))
def aborts_for_nothing(patch: Patch) -> None:
    patch.setattr(Sampler, "settle", lambda self, group, place: self._ledger.release(group.cost))


# Law 7: errors.


@mutant(7, small("best_of_n"), 2)
def makes_candidates_of_errors(patch: Patch) -> None:
    real = Sampler.sample

    async def sample(self: Sampler, group: Group) -> None:
        try:
            await real(self, group)
        except BackendError as error:
            for place, child in enumerate(group.children):
                if child is None:
                    self._take(group, place, Completion(str(error), Finish.EOS, group.observed[place] or 0), None)

    patch.setattr(Sampler, "sample", sample)


@mutant(7, small("best_of_n"))
def flattens_errors(patch: Patch) -> None:
    real = Sampler.sample

    async def sample(self: Sampler, group: Group) -> None:
        try:
            await real(self, group)
        except BackendError:
            raise BackendError("generation failed") from None

    patch.setattr(Sampler, "sample", sample)


@mutant(7, small("best_of_n"))
def never_tries_again(patch: Patch) -> None:
    async def once(call: Callable[[], Any], *given: Any) -> Any:
        return await call()

    patch.setattr(sampler, "call_with_retry", once)


@mutant(7, small("best_of_n"))
def is_patient_past_the_deadline(patch: Patch) -> None:
    real = call_with_retry

    async def shielded(*given: Any) -> None:
        with anyio.CancelScope(shield=True):
            await real(*given)

    patch.setattr(sampler, "call_with_retry", shielded)


@mutant(7, small("beam"))
def starts_without_what_it_needs(patch: Patch) -> None:
    patch.setattr(setup, "check_needs", lambda *given: None)


# Law 8: answers.


@mutant(8, small("self_consistency"))
def votes_over_raw_text(patch: Patch) -> None:
    patch.setattr(Node, "answer_key", property(lambda self: self.answer))


@mutant(8, small("self_consistency"))
def lets_the_unreadable_vote(patch: Patch) -> None:
    real = Node.__dict__["answer_key"].fget
    patch.setattr(Node, "answer_key", property(lambda self: real(self) or "nothing"))


@mutant(8, small("self_consistency"))
def elects_the_least(patch: Patch) -> None:
    real = voting.vote

    def vote(pool: list[Node], weight: Any) -> Answer:
        answer = real(pool, weight)
        voters = [entry for entry in answer.ranking if entry.votes is not None]
        return Answer(voters[-1].node if voters else None, answer.ranking, answer.decided)

    patch.setattr(self_consistency, "vote", vote)
