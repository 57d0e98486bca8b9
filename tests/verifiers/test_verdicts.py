"""What judges are told, and how what they state is read."""

from __future__ import annotations

import pytest

from tts.errors import ParameterError
from tts.types import Message
from tts.verifiers.verdicts import ComparePrompt, JudgePrompt, LocatePrompt, problem_text


def test_a_prompt_that_hides_the_solution_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"the prompt\'s step has no \{solution\}"):
        JudgePrompt(step="Is it correct?")


def test_a_prompt_that_hides_a_solution_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"the prompt's ask has no \{second\}"):
        ComparePrompt(ask="{problem} {first}")


def test_a_prompt_without_a_marker_is_refused() -> None:
    with pytest.raises(ParameterError, match="marker is empty"):
        LocatePrompt(marker=" ")


def test_a_problem_that_is_a_system_message_is_shown() -> None:
    rules, question = Message(role="system", content="Be brief."), Message(role="user", content="What is 2?")
    assert problem_text([rules]) == "Be brief."
    assert problem_text([rules, question]) == "What is 2?"
    assert problem_text([question, Message(role="assistant", content="2")]) == "user: What is 2?\n\nassistant: 2"


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("All is well.", None),
        ("All is well. Verdict: Yes", "All is well. "),
        ("All is well.\n**Verdict:** Yes", "All is well.\n"),
        ("I write 'Verdict:' last.\nAll is well.\nVerdict: Yes\n", "I write 'Verdict:' last.\nAll is well.\n"),
        ("I write 'Verdict:' last.\nAll is well.", None),
        ("Verdict: Yes\n\nProblem: 2\nVerdict: No", ""),
    ],
)
def test_a_verdict_is_stated_on_a_line_of_its_own_or_the_last(text: str, before: str | None) -> None:
    assert JudgePrompt().before_verdict(text, ended=True) == before


def test_a_verdict_in_the_line_in_which_a_judge_was_cut_off_may_only_be_spoken_of() -> None:
    assert JudgePrompt().before_verdict("I shall write 'Verdict:' once", ended=False) is None
    assert JudgePrompt().before_verdict("All is well.\nVerdict:", ended=False) == "All is well.\n"


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("First wrong step: 3", 2),
        ("I looked.\nFirst wrong step: -1.\n", -1),
        ("First wrong step: 1\nFirst wrong step: 1", 0),
        ("**First wrong step:** 2", 1),
        ("**First wrong step: 2.**", 1),
        ("First wrong step: `-1`", -1),
        ("First wrong step: 1\nFirst wrong step: 2", None),
        ("First wrong step: 4", None),
        ("First wrong step: 0", None),
        ("First wrong step: -2", None),
        ("First wrong step: 2 or 3", None),
        ("First wrong step: two", None),
        ("2", None),
    ],
)
def test_a_stated_step_is_read_strictly(text: str, step: int | None) -> None:
    assert LocatePrompt().stated(text, 3, ended=True) == step


def test_a_number_at_which_a_verdict_was_cut_off_is_not_read() -> None:
    assert LocatePrompt().stated("First wrong step: 1", 12, ended=False) is None
    assert LocatePrompt().stated("First wrong step: 1\nbecau", 12, ended=False) == 0
