"""What the bundled models learn from is labelled exactly, and holds nothing that they are measured on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts.backends.embedded.training import corpus, paths, rollouts, solver, vocabulary
from tts.backends.embedded.training.rows import Rows
from tts.benchmarks.tasks import countdown, words
from tts.benchmarks.tasks.expressions import apply

if TYPE_CHECKING:
    from pathlib import Path

TOKENIZER = vocabulary.build_tokenizer()
QUESTION = "Use 18, 14, 25, 15 to make 36."


@pytest.fixture(scope="module")
def four() -> Rows:
    return paths.build(4, 300, careless=0.1, seed=5)


@pytest.fixture(scope="module")
def spoken() -> Rows:
    return corpus.build_words(300, slips=0.2, seed=5)


def texts(rows: Rows) -> list[tuple[str, list[str]]]:
    """The question and the parts of each row."""
    written = TOKENIZER.decode_batch([[int(token) for token in row if token] for row in rows.tokens])
    pairs = [text.partition("\n")[::2] for text in written]
    return [(question, rollouts.parts_of(attempt)) for question, attempt in pairs]


def said(labels: np.ndarray[tuple[int], np.dtype[np.float16]]) -> list[float]:
    return [float(label) for label in labels if not np.isnan(label)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 300))
def test_a_solution_is_counted_where_there_is_one(left: list[int], target: int) -> None:
    counted = solver.count(np.array([left], np.int32), np.array([target], np.int32))
    assert (counted[0] > 0) == countdown.reachable(left, target)


def test_distinct_values_are_counted_as_the_exact_solver_counts_them() -> None:
    left, target = (3, 7, 25, 50), 79
    counted = solver.count(np.array([left], np.int32), np.array([target], np.int32))
    assert counted[0] == countdown.count_solutions(left, target) > 0


def test_a_move_that_is_not_allowed_has_no_solution() -> None:
    made = solver.results(np.array([5, 999, 4], np.int32), np.array([5, 2, 0], np.int32))
    assert made.tolist() == [[10, 0, 25, 1], [0, 997, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("size", [4, 5])
def test_walks_are_labelled_as_the_task_labels_them(size: int) -> None:
    rows = paths.build(size, 60, careless=0.2, seed=size)
    for (question, parts), labels in zip(texts(rows), rows.labels, strict=True):
        exact = countdown.label_steps(countdown.parse_question(question), parts)
        if parts[-1] == vocabulary.STUCK:
            assert not exact[-2] if len(exact) > 1 else True
            exact = exact[:-1]
        assert said(labels) == [float(label) for label in exact]


def test_some_walks_end_stuck_and_some_in_an_honest_wrong_answer(four: Rows) -> None:
    endings = [parts[-1] for _, parts in texts(four)]
    wrong = [parts for _, parts in texts(four) if parts[-1] != vocabulary.STUCK]
    assert 0.03 < endings.count(vocabulary.STUCK) / len(endings) < 0.3
    for parts in wrong:
        stated = int(parts[-2].split(" = ")[1].split(" ")[0])
        expression = countdown.answer_of(parts[-1])
        assert expression is not None
        assert countdown.check_answer(countdown.Instance(_numbers(expression), stated), expression)


def _numbers(expression: str) -> tuple[int, ...]:
    return tuple(int(number) for number in expression.replace("(", "").replace(")", "").split() if number.isdigit())


def test_choices_share_out_one_or_nothing(four: Rows) -> None:
    totals = four.shares.astype(float).sum(-1)
    assert np.all((np.abs(totals - 1) < 0.01) | (totals == 0))
    assert not four.learned[:, four.places].any()


def test_training_holds_no_problem_that_is_measured(four: Rows, spoken: Rows) -> None:
    assert not any(countdown.is_held_out(countdown.parse_question(question)) for question, _ in texts(four))
    assert not any(words.is_held_out(words.parse_question(question)) for question, _ in texts(spoken))


def test_word_problems_are_labelled_as_the_task_labels_them(spoken: Rows) -> None:
    for (question, parts), labels in zip(texts(spoken), spoken.labels, strict=True):
        assert said(labels) == list(map(float, words.label_steps(words.parse_question(question), parts)))


def test_a_careless_student_is_right_now_and_then(spoken: Rows) -> None:
    right = np.mean([said(labels)[-1] for labels in spoken.labels])
    assert 0.4 < right < 0.75


def test_what_is_learned_begins_after_the_question(spoken: Rows) -> None:
    for (question, _), learned, tokens in zip(texts(spoken), spoken.learned, spoken.tokens, strict=True):
        begin = len(TOKENIZER.encode(question + "\n").ids)
        assert learned.nonzero()[0].tolist() == list(range(begin, int((tokens != 0).sum())))


def test_the_same_seed_gives_the_same_rows(tmp_path: Path) -> None:
    first, again, other = (paths.build(4, 20, 0.1, seed) for seed in (1, 1, 2))
    assert (first.tokens == again.tokens).all()
    assert not (first.tokens == other.tokens).all()
    first.save(tmp_path / "rows.npz")
    loaded = Rows.load(tmp_path / "rows.npz")
    assert (loaded.shares == first.shares).all()
    assert (loaded.batch(np.arange(3)).tokens == next(iter([first.batch(np.arange(3))])).tokens).all()


def test_a_batch_of_more_rows_than_there_are_is_refused(spoken: Rows) -> None:
    with pytest.raises(ValueError, match="make more of them"):
        next(spoken.batches(len(spoken.tokens) + 1, seed=0))


def test_a_part_is_worth_the_share_that_ends_well_from_the_same_point() -> None:
    begun = "25 + 15 = 40 (left: 18, 14, 40)\n\n"
    swapped = "25 + 15 = 40 (left: 14, 18, 40)\n\n"
    right = begun + "40 + 14 = 54 (left: 18, 54)\n\n54 - 18 = 36 (left: 36)\n\nThe answer is \\boxed{25 + 15 + 14 - 18}"
    stuck = swapped + "18 * 14 = 252 (left: 40, 252)\n\n" + vocabulary.STUCK
    judge = partial(countdown.label_steps, countdown.parse_question(QUESTION))
    (_, first), (_, second) = rollouts.label(
        "Use 18, 14, 25, 15 to make 36.", judge, [right, stuck], rollouts.values_left
    )
    assert list(first.values()) == [0.5, 1.0, 1.0, 1.0]
    assert list(second.values()) == [0.5, 0.0]


def test_drills_are_labelled_by_their_arithmetic() -> None:
    rows = corpus.build_drills(40, seed=3)
    for text, labels, learned, tokens in zip(
        TOKENIZER.decode_batch([[int(token) for token in row if token] for row in rows.tokens]),
        rows.labels, rows.learned, rows.tokens, strict=True,
    ):  # fmt: skip
        equations = [equation.split(" = ") for equation in text.split("\n\n")[:-1]]
        exact = [apply(*_operation(left)) == int(result) for left, result in equations]
        assert said(labels) == [float(right) for right in exact]
        assert TOKENIZER.decode(tokens[learned].tolist()) == "".join(
            result for (_, result), right in zip(equations, exact, strict=True) if right
        )
    assert 0.2 < np.mean([not label for labels in rows.labels for label in said(labels)]) < 0.4


def _operation(text: str) -> tuple[int, str, int]:
    left, operator, right = text.split(" ")
    return int(left), operator, int(right)
