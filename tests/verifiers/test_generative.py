"""The judge: what it is shown, that the score is a token's probability, and that what fails is never a score."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.backends.fake_vllm import FakeVLLM
from tests.verifiers.label_scorer import LABELS, QUESTION, READS, STEPS, FakeScorer, began, path
from tts.backends.vllm_scorer import VLLMScorer
from tts.backends.vllm_server import VLLMServer
from tts.checks import check_verifier
from tts.errors import NeedsError, ParameterError, ScoreCountError, ScoreValueError, TransientError, VerifierError
from tts.fakes import GENERATES, ScriptedGenerator
from tts.protocols import Path
from tts.seeds import derive
from tts.types import Message, Sampling
from tts.verifiers.generative import Generative, first_wrong
from tts.verifiers.verdicts import CHOICE, SELF_EVALUATION, JudgePrompt

if TYPE_CHECKING:
    from tts.verifiers.generative import Thinking

ROOMY = replace(GENERATES, context=8192)


def thinker(says: str = "7 times 8 is 56.\nVerdict: Yes", **more: Any) -> ScriptedGenerator:
    return ScriptedGenerator(lambda text, seed: says, able=ROOMY, **more)


async def test_the_score_is_the_verdict_token_s_probability() -> None:
    scorer = FakeScorer()
    (reply,) = await Generative(scorer).score([path()])
    assert (list(reply.values), reply.calls, reply.tokens) == ([0.75], 1, len(scorer.seen[0]))
    assert scorer.asked == [(LABELS[" Yes"], LABELS[" No"])]
    assert "What is 7 times 8?" in scorer.seen[0] and "".join(STEPS) in scorer.seen[0]
    assert "Be brief." not in scorer.seen[0]
    assert scorer.seen[0].endswith("[assistant]Verdict:")


async def test_an_unfinished_path_is_said_to_be_unfinished() -> None:
    scorer = FakeScorer(lambda text: 0.25 if "not finished" in text else 0.5)
    replies = await Generative(scorer).score([path(), path(*STEPS[:1], finished=False)])
    assert [list(reply.values) for reply in replies] == [[0.5], [0.25]]


async def test_what_a_path_says_is_not_taken_for_a_place_in_the_prompt() -> None:
    scorer = FakeScorer()
    await Generative(scorer).score([path("{problem} {cue}")])
    assert "{problem} {cue}" in scorer.seen[0]


async def test_thinking_is_read_after_the_rationale() -> None:
    scorer, generator = FakeScorer(lambda text: 0.9 if "56.\nVerdict:" in text else 0.1), thinker()
    (reply,) = await Generative(scorer, generator, thinking="on").score([path()])
    assert (list(reply.values), reply.calls) == ([0.9], 2)
    assert scorer.seen[0].endswith("[assistant]7 times 8 is 56.\nVerdict:")
    (request,) = generator.calls
    sampled = len("7 times 8 is 56.\nVerdict: Yes") + 1
    assert reply.tokens == len(request.prompt.token_ids) + sampled + len(scorer.seen[0])


@pytest.mark.parametrize("thought", ["", "<think>So the last line is\nVerdict: Yes\nOr not.</think>"])
@pytest.mark.parametrize(
    ("says", "read"),
    [
        ("All is well.", "All is well.\n\nVerdict:"),
        (
            "I write 'Verdict:' last.\nAll is well.\n**Verdict:** Yes",
            "I write 'Verdict:' last.\nAll is well.\nVerdict:",
        ),
    ],
)
async def test_a_rationale_is_read_up_to_its_verdict_after_the_thinking(thought: str, says: str, read: str) -> None:
    scorer = FakeScorer()
    await Generative(scorer, thinker(thought + says), thinking="on").score([path()])
    assert scorer.seen[0].endswith(f"[assistant]{thought}{read}")


async def test_thinking_that_the_prompt_opened_is_told_apart() -> None:
    scorer, prompt = FakeScorer(), JudgePrompt(reasoned=" Think.\n<think>")
    await Generative(scorer, thinker("So\nVerdict: No?\n</think>Verdict: Yes"), thinking="on", prompt=prompt).score(
        [path()]
    )
    assert scorer.seen[0].endswith("[assistant]So\nVerdict: No?\n</think>Verdict:")
    with pytest.raises(VerifierError, match="ended within its thinking"):
        await Generative(scorer, thinker("So\nVerdict: No?"), thinking="on", prompt=prompt).score([path()])


async def test_a_verdict_stated_before_the_cap_is_read() -> None:
    scorer = FakeScorer()
    judge = Generative(
        scorer, thinker("Well.\nVerdict: Yes" + " so" * 99), thinking="on", sampling=Sampling(max_tokens=40)
    )
    await judge.score([path()])
    assert scorer.seen[0].endswith("[assistant]Well.\nVerdict:")


async def test_the_mean_is_of_both_scores_and_read_in_one_round() -> None:
    scorer = FakeScorer(lambda text: 0.9 if "56.\nVerdict:" in text else 0.2)
    (reply,) = await Generative(scorer, thinker(), thinking="mean").score([path()])
    assert list(reply.values) == pytest.approx([0.55])
    assert (reply.calls, scorer.rounds) == (3, 1)


async def test_a_rationale_hangs_on_the_path_and_the_seed_alone() -> None:
    async def seeds(paths: list[Path], seed: int = 0) -> list[int]:
        generator = thinker()
        await Generative(FakeScorer(), generator, thinking="on", seed=seed).score(paths)
        return [request.seed for request in generator.calls]

    alone = await seeds([path()])
    assert alone[0] in await seeds([path("other"), path()])
    assert len({*alone, *await seeds([path("other")]), *await seeds([path()], seed=1)}) == 3


@pytest.mark.parametrize("thinking", ["off", "on", "mean"])
@pytest.mark.parametrize("stepwise", [False, True])
async def test_it_keeps_the_clauses(thinking: Thinking, stepwise: bool) -> None:
    def make() -> Generative:
        scorer = FakeScorer(lambda text: derive(text) % 1000 / 1000)
        generator = ScriptedGenerator(lambda text, seed: f"Thought {seed}.\nVerdict:", able=ROOMY)
        return Generative(scorer, None if thinking == "off" else generator, thinking=thinking, stepwise=stepwise)

    await check_verifier(make)


@pytest.mark.parametrize("thinking", ["off", "on", "mean"])
async def test_it_takes_no_more_than_it_says(thinking: Thinking) -> None:
    writes = None if thinking == "off" else thinker("So it is right. " * 40 + "Verdict: Yes")
    verifier = Generative(FakeScorer(), writes, thinking=thinking, stepwise=True, max_steps=3)
    (reply,), able = await verifier.score([path()]), verifier.capabilities
    assert reply.calls == able.calls
    assert reply.tokens <= able.calls * len("What is 7 times 8?" + "".join(STEPS)) + able.extra_tokens


async def test_each_step_is_judged_with_those_before_it() -> None:
    scorer = FakeScorer(lambda text: 0.2 if "That is 56." in text else 0.8)
    verifier = Generative(scorer, stepwise=True)
    (reply,) = await verifier.score([path()])
    assert (list(reply.values), reply.calls) == ([0.8, 0.2, 0.2], 3)
    assert await verifier.first_wrong(path()) == 1
    assert await verifier.first_wrong(path(), threshold=0.1) == -1


async def test_steps_that_paths_share_are_asked_about_once() -> None:
    scorer = FakeScorer()
    await Generative(scorer, stepwise=True).score([path(*STEPS[:2], finished=False), path()])
    assert len(scorer.seen) == 3


def test_the_first_wrong_step_is_the_first_below_the_threshold() -> None:
    assert [first_wrong([0.9, 0.5, 0.4, 0.1]), first_wrong([0.9, 0.5], 0.6), first_wrong([0.5]), first_wrong([])] == [
        2, 1, -1, -1,
    ]  # fmt: skip
    with pytest.raises(ParameterError, match=r"threshold is 1\.5"):
        first_wrong([0.5], 1.5)


async def test_only_a_stepwise_judge_knows_which_step() -> None:
    with pytest.raises(ParameterError, match="give stepwise=True"):
        await Generative(FakeScorer()).first_wrong(path())


async def test_self_evaluation_is_asked_in_the_path_s_own_conversation() -> None:
    scorer = FakeScorer()
    begun = (*QUESTION, Message(role="assistant", content="Well: "))
    await Generative(scorer, prompt=SELF_EVALUATION).score([Path(begun, ("56",), True), path("56")])
    assert scorer.seen[0].startswith("[system]Be brief.[user]What is 7 times 8?[assistant]Well: 56[user]Would you")
    assert scorer.seen[1].startswith("[system]Be brief.[user]What is 7 times 8?[assistant]56[user]Would you")
    assert scorer.asked[0] == (LABELS["No"], LABELS["Yes"])


async def test_the_choice_is_read_at_its_letter() -> None:
    scorer = FakeScorer()
    await Generative(scorer, prompt=CHOICE).score([path()])
    assert scorer.asked[0] == (LABELS["A"], LABELS["B"])
    assert scorer.seen[0].endswith("(B) Incorrect[assistant]The above is: (")


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ("", "said nothing in 1 verdicts"),
        ("Let me see. " * 9, "cut off at 40 tokens"),
        ("<think>Let me see\nVerdict: " + "so " * 9, "cut off at 40 tokens"),
        ("<think>Well\nVerdict: Yes", "ended within its thinking, after 25 tokens"),
    ],
)
async def test_a_rationale_that_fails_is_an_error_that_names_the_path(says: str, problem: str) -> None:
    scorer = FakeScorer()
    judge = Generative(scorer, thinker(says), thinking="on", sampling=Sampling(max_tokens=40))
    with pytest.raises(VerifierError, match=f"path of 3 steps .* that begins '7 times 8 is 49.*{problem}"):
        await judge.score([path()])
    assert scorer.seen == []


async def test_errors_of_the_models_come_as_themselves() -> None:
    generator = thinker(faults=lambda call: TransientError("away"))
    with pytest.raises(TransientError, match="away"):
        await Generative(FakeScorer(), generator, thinking="on").score([path(), path("other")])


def busy(call: int = 0) -> TransientError:
    return TransientError("busy", began=False)


@pytest.mark.parametrize("thinking", ["on", "mean"])
async def test_what_others_began_is_not_forgotten_where_one_was_not_begun(thinking: Thinking) -> None:
    alone = Generative(FakeScorer(), thinker(faults=busy), thinking=thinking)
    beside = Generative(FakeScorer(), thinker(faults=busy), thinking=thinking)
    after = Generative(FakeScorer(fault=busy()), thinker(), thinking=thinking)
    assert not await began(alone, [path()])
    assert await began(beside, [path(), path("other")])
    assert await began(after, [path()])


@pytest.mark.parametrize(
    ("scorer", "error"), [(FakeScorer(lost=1), ScoreCountError), (FakeScorer(lambda _: float("nan")), ScoreValueError)]
)
async def test_what_the_scorer_gets_wrong_is_no_score(scorer: FakeScorer, error: type[VerifierError]) -> None:
    with pytest.raises(error):
        await Generative(scorer).score([path()])


async def test_rows_that_are_lost_are_counted() -> None:
    judge = Generative(FakeScorer(lost=7))
    with pytest.raises(ScoreCountError, match=r"two labels after each of 9 texts, and gave 2 rows$"):
        await judge.score([path(str(place)) for place in range(9)])


@pytest.mark.parametrize("wrong", [Path(QUESTION, (), True), Path(QUESTION, ("\n\n",), False)])
async def test_nothing_is_not_judged(wrong: Path) -> None:
    scorer = FakeScorer()
    with pytest.raises(VerifierError, match="there is nothing to judge"):
        await Generative(scorer).score([path(), wrong])
    assert scorer.rounds == 0


async def test_what_fails_at_a_step_names_it() -> None:
    judge = Generative(FakeScorer(), thinker(""), thinking="on", stepwise=True)
    with pytest.raises(VerifierError, match=r"the path of 3 steps .*, up to its step [123]: scripted said nothing"):
        await judge.score([path()])


async def test_too_many_steps_are_refused_before_anything_is_sent() -> None:
    scorer = FakeScorer()
    with pytest.raises(ParameterError, match=r"path of 1000 steps .* the judge takes 40 steps"):
        await Generative(scorer, stepwise=True).score([path(*["a\n\n"] * 1000)])
    assert scorer.rounds == 0


async def test_what_does_not_fit_is_refused_before_anything_is_sent() -> None:
    scorer, generator, long = FakeScorer(), thinker(), path("a" * 8192)
    with pytest.raises(ParameterError, match="tokens to read and 1 to write are more than the 8192 that judge"):
        await Generative(scorer).score([path(), long])
    with pytest.raises(ParameterError, match="are more than the 8192 that judge"):
        await Generative(scorer, generator, thinking="mean").score([path(), long])
    generator.able = replace(GENERATES, context=1200)
    with pytest.raises(ParameterError, match="and 1024 to write are more than the 1200 that scripted"):
        await Generative(scorer, generator, thinking="on").score([path()])
    assert (scorer.rounds, generator.calls) == (0, [])


async def test_labels_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"label 'Good' is 4 tokens; .* give another"):
        await Generative(FakeScorer(), prompt=JudgePrompt(positive="Good")).connect()
    with pytest.raises(ParameterError, match="the model cannot tell them apart"):
        await Generative(FakeScorer(), prompt=JudgePrompt(negative=" Yes")).connect()
    with pytest.raises(NeedsError, match="gives probabilities of 2 classes and none of labels"):
        await Generative(FakeScorer(able=replace(READS, labels=False, classes=2))).connect()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"thinking": "on"}, "needs a generator"),
        ({"generator": thinker()}, "leave the generator out"),
        ({"thinking": "perhaps"}, "it is 'off', 'on' or 'mean'"),
        ({"generator": thinker(), "thinking": "on", "prompt": SELF_EVALUATION}, "needs a prompt with a cue"),
        ({"max_steps": 0}, "max_steps is 0"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ParameterError, match=problem):
        Generative(FakeScorer(), **given)


def test_caps_that_are_not_given_are_among_the_facts() -> None:
    able = Generative(FakeScorer(), thinker(), thinking="on", sampling=Sampling(temperature=0.0)).capabilities
    assert '"max_tokens":1024' in str(able.fingerprint["sampling"])


def test_prices_and_facts_are_those_of_both_models() -> None:
    able = Generative(FakeScorer(), thinker(), thinking="on").capabilities
    assert (able.name, able.dollars_per_token, able.flops_per_token) == ("generative(judge)", 0.5, 3.0)
    assert (able.fingerprint["name"], able.fingerprint["generator.name"]) == ("judge", "scripted")
    other = Generative(FakeScorer(), thinker(), thinking="on", prompt=CHOICE).capabilities
    assert other.fingerprint["prompt"] != able.fingerprint["prompt"]


async def test_closing_releases_both_models() -> None:
    scorer, generator = FakeScorer(), thinker()
    await Generative(scorer, generator, thinking="on").aclose()
    assert scorer.closed and generator.closed


async def test_a_server_judges_by_its_scorer_and_its_generator() -> None:
    with FakeVLLM() as server:
        server.task, server.context = "generate", 8192
        server.script = lambda path, seed: "All is well.\nVerdict: +"
        prompt = JudgePrompt(positive="+", negative="-")

        def make() -> Generative:
            return Generative(VLLMScorer(server.url), VLLMServer(server.url), thinking="mean", prompt=prompt)

        await check_verifier(make)


@pytest.mark.engine
async def test_a_real_language_model_judges_in_a_real_search() -> None:
    from tts import registry
    from tts.backends.embedded import EmbeddedScorer
    from tts.solve import solve

    shown = "{problem}\n{solution}"
    prompt = JudgePrompt(
        finished=shown, unfinished=shown, step=shown, at_once="", cue="(left: ", positive="1", negative="2"
    )
    plain = "{% for message in messages %}{{ message.content }}{% endfor %}"
    judge = Generative(EmbeddedScorer("arithmetic-policy", template=plain), prompt=prompt)
    try:
        strategy = registry.strategy("best_of_n", n=4)
        outcome = await solve("Use 3, 5, 7, 2 to make 24.", strategy=strategy, generator="embedded", verifier=judge)
    finally:
        await judge.aclose()
    assert 1 <= outcome.usage.verifier_calls <= 4
    assert outcome.usage.verifier_tokens > 20
    assert all(0 < (candidate.score or 0) < 1 for candidate in outcome.candidates)
