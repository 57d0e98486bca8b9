"""Fast verdicts and the slow one: when they agree, what is read of them, and what is an error."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.verifiers.label_scorer import LABELS, QUESTION, READS, STEPS, FakeScorer, began, path
from tts.checks import check_verifier
from tts.errors import NeedsError, ParameterError, TransientError, VerifierError
from tts.fakes import GENERATES, ScriptedGenerator
from tts.protocols import GenerationRequest, Path, Sink
from tts.types import Sampling
from tts.verifiers.escalating import Escalating
from tts.verifiers.verdicts import LocatePrompt

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOMY = replace(GENERATES, context=16384)
NONE, SECOND = "First wrong step: -1", "First wrong step: 2"


class Judge(ScriptedGenerator):
    """Says its fast verdicts by the place of the sample, and its slow one where it is told to be careful."""

    def __init__(self, fast: Sequence[str], slow: str = SECOND, **more: Any) -> None:
        self._careful: set[int] = set()
        super().__init__(lambda _, seed: slow if seed in self._careful else fast[seed % 4096], able=ROOMY, **more)

    async def generate(self, request: GenerationRequest, sink: Sink) -> None:
        if "carefully" in request.prompt.text:
            self._careful.add(request.seed)
        await super().generate(request, sink)


async def test_fast_verdicts_that_agree_decide() -> None:
    generator = Judge([NONE] * 3 + [SECOND])
    verifier = Escalating(generator, verdicts=4, agreement=0.75)
    found = await verifier.locate(path())
    assert (found.step, found.score, found.share, found.escalated, found.calls) == (-1, 0.75, 0.75, False, 4)
    (request,) = generator.calls
    assert (request.count, request.seed % 4096) == (4, 0)
    assert found.tokens == len(request.prompt.token_ids) + 4 + 3 * len(NONE) + len(SECOND)
    assert "Step 1: 7 times 8 is 49 plus 7.\n\nStep 2: That is 56.\n\nStep 3: " in request.prompt.text


async def test_those_that_agree_on_a_step_leave_the_share_of_the_others() -> None:
    found = await Escalating(Judge([SECOND] * 7 + [NONE])).locate(path())
    assert (found.step, found.score, found.escalated) == (1, 0.125, False)


@pytest.mark.parametrize(("slow", "step", "score"), [(SECOND, 1, 0.0), ("Checked.\n\n" + NONE, -1, 1.0)])
async def test_the_slow_verdict_decides_where_they_do_not_agree(slow: str, step: int, score: float) -> None:
    generator = Judge([NONE] * 6 + [SECOND] * 2, slow)
    found = await Escalating(generator).locate(path())
    assert (found.step, found.score, found.share, found.escalated, found.calls) == (step, score, 0.75, True, 9)
    assert [request.count for request in generator.calls] == [8, 1]
    sampled = 8 * len(NONE) + 9 + len(slow)
    read = sum(len(request.prompt.token_ids) for request in generator.calls)
    assert found.tokens == sampled + read - 2 * (len(NONE) - len(SECOND))


async def test_a_scorer_says_how_likely_the_slow_verdict_is_right() -> None:
    scorer = FakeScorer(lambda text: 0.3)
    verifier = Escalating(Judge([NONE, SECOND]), scorer, verdicts=2)
    (reply,) = await verifier.score([path()])
    assert (list(reply.values), reply.calls) == ([0.3], 4)
    assert scorer.seen[0].endswith(f"[assistant]{SECOND}\n\nAre all steps correct, Yes or No? Verdict:")
    assert scorer.asked == [(LABELS[" Yes"], LABELS[" No"])]


async def test_a_verdict_that_cannot_be_read_counts_but_is_no_vote() -> None:
    agreed = await Escalating(Judge([NONE] * 7 + ["perhaps"])).locate(path())
    assert (agreed.score, agreed.share, agreed.unreadable, agreed.escalated) == (1.0, 0.875, 1, False)
    torn = await Escalating(Judge([NONE] * 6 + ["perhaps"] * 2)).locate(path())
    assert (torn.score, torn.share, torn.unreadable, torn.escalated) == (0.0, 0.75, 2, True)
    lost = await Escalating(Judge(["perhaps"] * 8)).locate(path())
    assert (lost.step, lost.share, lost.unreadable, lost.escalated) == (1, 0.0, 8, True)


async def test_a_step_that_is_only_thought_of_is_not_stated() -> None:
    thought = "<think>\nFirst wrong step: 2\n"
    found = await Escalating(Judge([thought + "</think>First wrong step: 1"]), verdicts=1).locate(path())
    assert (found.step, found.verdict) == (0, thought + "</think>First wrong step: 1")
    torn = await Escalating(Judge([NONE, NONE, thought]), verdicts=3, agreement=0.6).locate(path())
    assert (torn.step, torn.unreadable, torn.verdict) == (-1, 1, NONE)
    for slow in (thought, thought + "so " * 90):
        with pytest.raises(VerifierError, match="without a step that can be read"):
            await Escalating(Judge([NONE, SECOND], slow), verdicts=2, slow=Sampling(max_tokens=80)).score([path()])


async def test_thinking_that_the_prompt_opened_is_told_apart() -> None:
    prompt = LocatePrompt(fast=" <think>", slow=" carefully <think>")
    verdicts = ["First wrong step: 2\n", "First wrong step: 2\n</think>" + NONE, "First wrong step: 1\n</think>" + NONE]
    found = await Escalating(Judge(verdicts), verdicts=3, agreement=0.6, prompt=prompt).locate(path())
    assert (found.step, found.unreadable) == (-1, 1)
    closed = LocatePrompt(fast=" <think>", opening="</think>")
    assert (await Escalating(Judge([NONE]), verdicts=1, prompt=closed).locate(path())).step == -1


@pytest.mark.parametrize(
    ("fast", "slow", "problem"),
    [
        ([NONE, SECOND], "perhaps", r"the slow verdict ended after 8 tokens without a step.*another prompt or judge"),
        (
            [NONE, SECOND],
            "so " * 20 + NONE,
            r"was cut off after 50 tokens without a step.*slow=Sampling\(max_tokens=.*",
        ),
        (["", ""], NONE, r"said nothing in 2 verdicts: .*another judge"),
        ([NONE, SECOND], "", r"said nothing in 1 verdicts: .*another judge"),
    ],
)
async def test_a_judge_that_fails_is_an_error_that_names_the_path(fast: list[str], slow: str, problem: str) -> None:
    verifier = Escalating(Judge(fast, slow), verdicts=2, slow=Sampling(max_tokens=50))
    with pytest.raises(VerifierError, match=f"path of 3 steps .* that begins '7 times 8 .*{problem}"):
        await verifier.score([path()])


async def test_verdicts_hang_on_the_path_and_the_seed_alone() -> None:
    async def seed(one: Path, given: int = 0) -> int:
        generator = Judge([NONE] * 8)
        await Escalating(generator, seed=given).score([one])
        return generator.calls[0].seed

    alike = {await seed(path()), await seed(path())}
    assert len(alike) == 1
    assert len({*alike, await seed(path(), 1), await seed(path("other")), await seed(path(finished=False))}) == 4


async def test_errors_of_the_models_come_as_themselves() -> None:
    with pytest.raises(TransientError, match="away"):
        await Escalating(Judge([NONE] * 8, faults=lambda call: TransientError("away"))).score([path(), path("x")])


async def test_what_others_began_is_not_forgotten_where_one_was_not_begun() -> None:
    busy = TransientError("busy", began=False)
    first = Judge([NONE] * 8, faults=lambda call: TransientError("busy", began=False))
    assert not await began(Escalating(first), [path()])
    assert await began(Escalating(first), [path(), path("other")])
    second = Judge([NONE, SECOND] * 4, faults=lambda call: busy if call else None)
    assert await began(Escalating(second), [path()])
    assert await began(
        Escalating(Judge([NONE, SECOND] * 4), FakeScorer(fault=TransientError("", began=False))), [path()]
    )


async def test_what_comes_back_short_is_an_error() -> None:
    class Losing(Judge):
        async def generate(self, request: GenerationRequest, sink: Sink) -> None:
            await super().generate(replace(request, count=request.count - 1), sink)

    with pytest.raises(VerifierError, match="was asked for 8 verdicts and gave 7"):
        await Escalating(Losing([NONE] * 8)).score([path()])


@pytest.mark.parametrize("read", [False, True])
async def test_it_keeps_the_clauses(read: bool) -> None:
    def make() -> Escalating:
        generator = ScriptedGenerator(lambda text, seed: (NONE, "First wrong step: 1")[seed % 3 // 2], able=ROOMY)
        return Escalating(generator, FakeScorer() if read else None, verdicts=3)

    await check_verifier(make)


async def test_it_takes_no_more_than_it_says() -> None:
    verifier = Escalating(Judge([NONE] * 4 + [SECOND] * 4), FakeScorer())
    (reply,), able = await verifier.score([path()]), verifier.capabilities
    assert reply.calls == able.calls == 10
    assert reply.tokens <= able.calls * len("What is 7 times 8?" + "".join(STEPS)) + able.extra_tokens
    assert (able.steps, able.partial, able.name) == (False, True, "escalating(scripted)")
    assert (able.dollars_per_token, able.fingerprint["scorer.name"]) == (0.5, "judge")


async def test_an_unfinished_path_is_said_to_be_unfinished() -> None:
    generator = Judge([NONE] * 8)
    await Escalating(generator).score([path(*STEPS[:2], finished=False)])
    assert "which is not finished" in generator.calls[0].prompt.text


async def test_a_fast_verdict_can_begin_with_given_text() -> None:
    generator = Judge([" -1"] * 8)
    prompt = LocatePrompt(opening="First wrong step:")
    assert (await Escalating(generator, prompt=prompt).locate(path())).score == 1
    assert (generator.calls[0].text, len(generator.calls[0].token_ids)) == ("First wrong step:", 17)
    generator.able = replace(ROOMY, continuation=False)
    with pytest.raises(NeedsError, match="cannot go on after 'First wrong step:'"):
        await Escalating(generator, prompt=prompt).connect()


async def test_what_cannot_be_judged_is_refused_before_anything_is_sent() -> None:
    generator = Judge([NONE] * 8)
    verifier = Escalating(generator)
    with pytest.raises(VerifierError, match="there is nothing to judge"):
        await verifier.score([path(), Path(QUESTION, (), True)])
    with pytest.raises(ParameterError, match=r"path of 1000 steps .* the judge takes 40 steps"):
        await verifier.score([path(), path(*["a\n\n"] * 1000)])
    with pytest.raises(ParameterError, match="and 4096 to write are more than the 16384 that scripted"):
        await verifier.score([path(), path("a" * 12288)])
    with pytest.raises(ParameterError, match="and 4097 to write are more than the 4096 that judge"):
        await Escalating(generator, FakeScorer(able=replace(READS, context=4096))).score([path()])
    assert generator.calls == []


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"verdicts": 0}, "verdicts is 0"),
        ({"agreement": 0.5}, r"agreement is 0\.5; it is above 0\.5"),
        ({"max_steps": 0}, "max_steps is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ParameterError, match=problem):
        Escalating(Judge([]), **given)


async def test_closing_releases_both_models() -> None:
    generator, scorer = Judge([]), FakeScorer()
    await Escalating(generator, scorer).aclose()
    assert generator.closed and scorer.closed
