"""The exact verifier: what is right, what is an oracle by name, and what it refuses to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tts import solve
from tts.benchmarks.tasks.countdown import check_answer, label_steps, parse_question
from tts.benchmarks.tasks.countdown_task import COUNTDOWN, CountdownReader
from tts.calibration import Calibration, FittedOn, Platt
from tts.checks import check_verifier
from tts.errors import NeedsError, ParameterError, ScoreCountError, ScoreValueError, VerifierError
from tts.fakes import ScriptedGenerator, tree_script
from tts.grading import Undecided
from tts.protocols import Path
from tts.strategies.best_of_n import BestOfN
from tts.tasks import Item
from tts.types import Message, Problem
from tts.verifiers.calibrated import Calibrated
from tts.verifiers.exact import Exact, ExactAnswers, ExactSteps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.grading import Verdict
    from tts.protocols import Verifier

QUESTION = "What is 7 times 8?"
MESSAGES = (Message(role="system", content="Be brief."), Message(role="user", content=QUESTION))


def path(*steps: str, finished: bool = True, messages: tuple[Message, ...] = MESSAGES) -> Path:
    return Path(messages, steps, finished)


async def values(verifier: Verifier, *paths: Path) -> list[list[float]]:
    return [list(reply.values) for reply in await verifier.score(paths)]


class Recording:
    """Finds equal what is spelled the same, cannot decide on "?", and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.closed = False
        self.fingerprint: dict[str, str | int | float | bool | None] = {"rules": "recording"}

    async def equal(self, gold: str, answer: str) -> Verdict:
        self.asked.append((gold, answer))
        return Undecided("time", "too long") if answer == "?" else gold == answer

    async def aclose(self) -> None:
        self.closed = True


async def test_it_keeps_the_promises_of_a_verifier() -> None:
    await check_verifier(lambda: ExactAnswers({QUESTION: "56"}), QUESTION)
    await check_verifier(lambda: Exact(lambda messages, answer: answer == "56"), QUESTION)
    await check_verifier(lambda: ExactSteps(lambda messages, steps: ["7" in step for step in steps]), QUESTION)


async def test_a_right_answer_is_one_and_a_wrong_or_missing_one_is_zero() -> None:
    verifier = ExactAnswers({QUESTION: "56"})
    paths = [path("7 * 8\n\n", r"\boxed{\frac{112}{2}}"), path(r"\boxed{54}"), path("I give up.")]
    assert await values(verifier, *paths) == [[1.0], [0.0], [0.0]]


async def test_answers_in_thinking_do_not_count() -> None:
    verifier = ExactAnswers({QUESTION: "56"})
    assert await values(verifier, path(r"<think>\boxed{56}</think>\boxed{54}")) == [[0.0]]
    assert await values(ExactAnswers({QUESTION: "56"}, thinking=("[", "]")), path(r"[\boxed{5}] \boxed{56}")) == [[1.0]]


async def test_a_grader_is_asked_once_for_each_answer_and_closed() -> None:
    grader = Recording()
    verifier = ExactAnswers({QUESTION: "56"}, grader=grader)
    assert await values(verifier, path(r"\boxed{56}"), path(r"So \boxed{56}"), path(r"\boxed{7}")) == [[1], [1], [0]]
    assert sorted(grader.asked) == [("56", "56"), ("56", "7")]
    assert verifier.capabilities.fingerprint["rules"] == "recording"
    await verifier.aclose()
    assert grader.closed


async def test_what_cannot_be_decided_is_an_error() -> None:
    verifier = ExactAnswers({QUESTION: "56"}, grader=Recording())
    with pytest.raises(
        VerifierError, match=r"oracle\(answers\): answer '\?' to 'What is 7 .* undecided \(time\)"
    ) as found:
        await verifier.score([path(r"\boxed{56}"), path(r"\boxed{?}")])
    assert "56" not in str(found.value)


async def test_a_question_without_a_gold_answer_is_an_error() -> None:
    with pytest.raises(VerifierError, match=r"no gold answer for the question 'What is 7 times 8\?'; there are 1"):
        await ExactAnswers({"What is 2 + 2?": "4"}).score([path(r"\boxed{56}")])


@pytest.mark.parametrize(
    ("given", "what"),
    [(path("so", finished=False), "path 1 has not finished"), (path(), "path 1 has no steps")],
)
async def test_what_is_no_finished_path_is_an_error(given: Path, what: str) -> None:
    with pytest.raises(VerifierError, match=what):
        await ExactAnswers({QUESTION: "56"}).score([path(r"\boxed{56}"), given])


async def test_a_thousand_steps_are_labelled_and_none_are_refused() -> None:
    verifier = ExactSteps(lambda messages, steps: [True] * len(steps))
    assert await values(verifier, path(*["step\n\n"] * 1000)) == [[1.0] * 1000]
    with pytest.raises(VerifierError, match="path 0 has no steps"):
        await verifier.score([path(finished=False)])
    with pytest.raises(ScoreCountError, match="path 0 has 2 steps, but 1 labels"):
        await ExactSteps(lambda messages, steps: [True]).score([path("a", "b")])


async def test_what_is_no_verdict_is_an_error_and_no_zero() -> None:
    unsure: Any = lambda messages, answer: None  # noqa: E731
    with pytest.raises(ScoreValueError, match=r"exact\(check\): label 0 is None; expected True or False"):
        await Exact(unsure).score([path(r"\boxed{56}")])
    half: Any = lambda messages, steps: [True, None]  # noqa: E731
    with pytest.raises(ScoreValueError, match=r"exact\(labels\): path 0: label 1 is None"):
        await ExactSteps(half).score([path("a", "b")])


async def test_countdown_is_checked_by_its_question_alone() -> None:
    def check(messages: Sequence[Message], answer: str) -> bool:
        return check_answer(parse_question(messages[-1].content), answer)

    item = COUNTDOWN.items(1)[0]
    verifier = Exact(check, CountdownReader(), name="countdown")
    right = path(rf"\boxed{{{item.gold}}}", messages=item.problem.messages)
    wrong = path(rf"\boxed{{{item.gold} + 1}}", messages=item.problem.messages)
    assert await values(verifier, right, wrong) == [[1.0], [0.0]]
    assert verifier.capabilities.name == "exact(countdown)"


async def test_what_a_task_grades_is_an_oracle_by_name() -> None:
    items = COUNTDOWN.items(2)
    whole, stepwise = Exact.from_task(COUNTDOWN, items), ExactSteps.from_task(COUNTDOWN, items)
    answer = rf"\boxed{{{items[1].gold}}}"
    assert await values(whole, path(answer, messages=items[1].problem.messages)) == [[1.0]]
    assert [one.capabilities.name for one in (whole, stepwise)] == ["oracle(countdown)"] * 2
    assert ExactAnswers({}).capabilities.name == "oracle(answers)"
    with pytest.raises(VerifierError, match=r"oracle\(countdown\): no gold answer for the question"):
        await whole.score([path(answer)])
    with pytest.raises(VerifierError, match=r"oracle\(countdown\): no gold answer for the question"):
        await stepwise.score([path(answer)])


async def test_labels_are_the_task_s_for_unfinished_paths_too() -> None:
    item = COUNTDOWN.items(1)[0]
    steps = ("1 + 1 = 3 (left: 3)\n\n", "so\n\n")
    verifier = ExactSteps.from_task(COUNTDOWN, [item])
    expected = [float(label) for label in label_steps(parse_question(item.problem.question), steps)]
    assert await values(verifier, path(*steps, finished=False, messages=item.problem.messages)) == [expected]
    assert 0.0 in expected


def test_two_gold_answers_to_one_question_are_refused() -> None:
    problem = Problem(messages=MESSAGES, id="twice")
    with pytest.raises(ParameterError, match="twice asks what twice does"):
        Exact.from_task(COUNTDOWN, [Item(problem, "56"), Item(problem, "57")])


def test_verdicts_are_free_and_the_fingerprint_tells_answers_apart() -> None:
    one, other = (ExactAnswers({QUESTION: gold}).capabilities for gold in ("56", "57"))
    assert (one.dollars_per_token, one.flops_per_token, one.steps, one.partial) == (0.0, 0.0, False, False)
    assert one.fingerprint != other.fingerprint
    assert "56" not in map(str, one.fingerprint.values())


class AnySteps:
    """Finds every step right."""

    def __call__(self, messages: object, steps: Sequence[str]) -> list[bool]:
        return [True] * len(steps)


def starts_well(messages: object, answer: str) -> bool:
    return answer.startswith("5")


def ends_well(messages: object, answer: str) -> bool:
    return answer.endswith("6")


def rules(verifier: Verifier) -> object:
    return verifier.capabilities.fingerprint["rules"]


def test_the_fingerprint_says_by_which_task_or_rules() -> None:
    items = COUNTDOWN.items(1)
    assert rules(Exact.from_task(COUNTDOWN, items)) == "task countdown"
    assert rules(ExactSteps.from_task(COUNTDOWN, items)) == "task countdown"
    assert rules(Exact(starts_well)) == f"{__name__}.starts_well"
    assert rules(ExactSteps(AnySteps())) == f"{__name__}.AnySteps"
    assert rules(Exact(starts_well, rules="first digit")) == rules(ExactSteps(AnySteps(), rules="first digit"))
    assert rules(ExactAnswers({QUESTION: "56"})) == "keys of MathAnswerReader"
    able = ExactAnswers({QUESTION: "56"}, thinking=("[", "]")).capabilities
    assert able.fingerprint["thinking"] == "[ ]"


@pytest.mark.parametrize(
    ("fitted", "used"),
    [
        (Exact(starts_well), Exact(ends_well)),
        (Exact.from_task(COUNTDOWN, []), Exact(ends_well, CountdownReader(), name="countdown", oracle=True)),
        (ExactSteps.from_task(COUNTDOWN, []), ExactSteps(AnySteps(), name="countdown", oracle=True)),
        (ExactAnswers({QUESTION: "56"}), ExactAnswers({QUESTION: "56"}, grader=Recording())),
    ],
)
async def test_a_map_of_one_is_refused_on_another_of_the_same_name(fitted: Verifier, used: Verifier) -> None:
    able = fitted.capabilities
    on = FittedOn(
        verifier=able.name, fingerprint=able.fingerprint, steps=able.steps, task="t", generator="g", problems=2,
        good=5, bad=5,
    )  # fmt: skip
    found = Calibration(map=Platt(slope=1.0, intercept=0.0), fitted_on=on)
    assert used.capabilities.name == able.name
    await Calibrated(fitted, found).connect()
    with pytest.raises(NeedsError, match=r"rules .* there, .* here"):
        await Calibrated(used, found).connect()


async def test_a_search_with_an_oracle_finds_what_is_right_wherever_it_was_drawn() -> None:
    verifier = Exact(lambda messages, answer: answer == "2", oracle=True)
    outcome = await solve(
        "What?", generator=ScriptedGenerator(tree_script()), verifier=verifier, strategy=BestOfN(n=16)
    )
    assert outcome.answer == "2"
    assert len({candidate.answer for candidate in outcome.candidates}) > 1
    distinct = {candidate.text for candidate in outcome.candidates}
    assert outcome.usage.verifier_calls == len(distinct)
    assert outcome.usage.verifier_tokens == 0
