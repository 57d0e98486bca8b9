"""Countdown: instances, the exact solver, text, answers and labels."""

from itertools import combinations, islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts.benchmarks.tasks import countdown
from tts.benchmarks.tasks.countdown import Instance, Move
from tts.benchmarks.tasks.expressions import normal_form

SEEDS = st.integers(0, 2**32 - 1)
EXAMPLE = Instance((18, 14, 25, 15), 36)
STEPS = (
    "25 + 15 = 40 (left: 18, 14, 40)\n\n",
    "40 + 14 = 54 (left: 18, 54)\n\n",
    "54 - 18 = 36 (left: 36)\n\n",
    "The answer is \\boxed{((25 + 15) + 14) - 18}",
)


def brute_force(left: tuple[int, ...], target: int) -> bool:
    """Search without memory, sharing no code with the solver."""
    if len(left) == 1:
        return left[0] == target
    for first, second in combinations(range(len(left)), 2):
        larger, smaller = max(left[first], left[second]), min(left[first], left[second])
        results = {larger + smaller, larger - smaller, larger * smaller}
        if larger % smaller == 0:
            results.add(larger // smaller)
        rest = tuple(value for index, value in enumerate(left) if index not in (first, second))
        if any(1 <= result <= 999 and brute_force((*rest, result), target) for result in results):
            return True
    return False


@given(SEEDS)
def test_drawn_instances_keep_the_ranges_and_can_be_solved(seed: int) -> None:
    instance = countdown.draw_instance(Random(seed))
    assert len(instance.numbers) == 4
    assert all(1 <= number <= 30 for number in instance.numbers)
    assert 10 <= instance.target <= 200
    assert countdown.reachable(instance.numbers, instance.target)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(1, 200))
def test_reachable_agrees_with_brute_force(left: list[int], target: int) -> None:
    assert countdown.reachable(left, target) == brute_force(tuple(left), target)


def count_by_hand(left: tuple[int, ...], target: int) -> int:
    """Count paths forwards, without memory: two paths differ when some move does."""
    if len(left) == 1:
        return int(left[0] == target)
    return sum(count_by_hand(countdown.after(left, move), target) for move in countdown.moves(left))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(-1, 1200))
def test_count_solutions_agrees_with_counting_by_hand(left: list[int], target: int) -> None:
    assert countdown.count_solutions(left, target) == count_by_hand(tuple(left), target)


@given(SEEDS)
def test_any_path_leads_to_a_target_that_is_counted(seed: int) -> None:
    rng = Random(seed)
    left: tuple[int, ...] = tuple(rng.randint(1, 30) for _ in range(3))
    start = left
    while len(left) > 1:
        left = countdown.after(left, rng.choice(countdown.moves(left)))
    assert countdown.count_solutions(start, left[0]) == count_by_hand(start, left[0]) > 0


def test_five_numbers() -> None:
    rng = Random(2)
    for instance in (countdown.draw_instance(rng, 5), *countdown.held_out(3, seed=2, size=5)):
        assert len(instance.numbers) == 5
        assert countdown.parse_question(countdown.question(instance)) == instance
        parts = countdown.solution_text(instance, countdown.draw_solution(instance, rng))
        assert countdown.label_steps(instance, parts) == (True,) * 5
        assert countdown.label_steps(instance, (parts[1], *parts[1:])) == (False,) * 4 + (True,)
    trained = list(islice(countdown.training_instances(rng, 5), 100))
    assert {len(instance.numbers) for instance in trained} == {5}
    assert not any(map(countdown.is_held_out, trained))


def test_draw_solution_is_uniform_over_paths() -> None:
    instance = Instance((1, 2, 3, 6), 12)
    count = countdown.count_solutions(instance.numbers, instance.target)
    rng = Random(0)
    draws = [countdown.draw_solution(instance, rng) for _ in range(100 * count)]
    tallies = [draws.count(path) for path in set(draws)]
    assert len(tallies) == count
    assert min(tallies) > 50
    assert max(tallies) < 150


def test_draw_solution_refuses_an_instance_without_solution() -> None:
    with pytest.raises(ValueError, match="no solution"):
        countdown.draw_solution(Instance((1, 1, 1, 1), 200), Random(0))


def test_the_split_ignores_the_order_of_numbers() -> None:
    assert countdown.canonical(EXAMPLE) == "14,15,18,25>36"
    for seed in range(200):
        instance = countdown.draw_instance(Random(seed))
        turned = Instance(instance.numbers[::-1], instance.target)
        assert countdown.is_held_out(turned) == countdown.is_held_out(instance)


def test_held_out_instances_are_distinct_repeatable_and_never_trained_on() -> None:
    held_out = countdown.held_out(20, seed=3)
    assert held_out == countdown.held_out(20, seed=3)
    assert held_out[:5] == countdown.held_out(5, seed=3)
    assert held_out != countdown.held_out(20, seed=4)
    assert len({countdown.canonical(instance) for instance in held_out}) == 20
    assert all(map(countdown.is_held_out, held_out))
    assert not any(map(countdown.is_held_out, islice(countdown.training_instances(Random(3)), 1000)))


def test_question_as_text() -> None:
    assert countdown.question(EXAMPLE) == "Use 18, 14, 25, 15 to make 36."


@given(SEEDS)
def test_question_round_trip(seed: int) -> None:
    instance = countdown.draw_instance(Random(seed))
    assert countdown.parse_question(countdown.question(instance)) == instance


@pytest.mark.parametrize("text", ["", "Use 1, 2 to make", "Use 1 2 to make 3.", "Use 1, 2 to make -3."])
def test_parse_question_refuses_other_text(text: str) -> None:
    with pytest.raises(ValueError, match="not a Countdown question"):
        countdown.parse_question(text)


def test_solution_as_text() -> None:
    path = (Move(25, "+", 15, 40), Move(40, "+", 14, 54), Move(54, "-", 18, 36))
    assert countdown.solution_text(EXAMPLE, path) == STEPS


@given(SEEDS)
def test_drawn_solutions_are_labelled_good_and_answer_right(seed: int) -> None:
    rng = Random(seed)
    instance = countdown.draw_instance(rng)
    parts = countdown.solution_text(instance, countdown.draw_solution(instance, rng))
    assert countdown.label_steps(instance, parts) == (True, True, True, True)
    expression = countdown.answer_of(parts[-1])
    assert expression is not None
    assert countdown.check_answer(instance, expression)


@pytest.mark.parametrize(
    "expression",
    [
        "((25 + 15) + 14) - 18",
        "25+15+14-18",
        "14 - 18 + 25 + 15",
        "(14 + 15) − 18 + 25",
    ],
)
def test_check_answer_accepts(expression: str) -> None:
    assert countdown.check_answer(EXAMPLE, expression)


@pytest.mark.parametrize(
    "expression", ["6 × 4 / (3 - 2)", "6 \\times 4 \\div (3 - 2)", "6 x 4 ÷ (3-2)", "4 / (3 - 2) * 6"]
)
def test_check_answer_reads_other_spellings(expression: str) -> None:
    assert countdown.check_answer(Instance((2, 3, 4, 6), 24), expression)


@pytest.mark.parametrize(
    "expression",
    [
        "36",
        "18 + 18",
        "25 + 15 + 14",
        "25 + 15 + 14 - 18 + 0",
        "25 + 15 + 14 + 18",
        "25 + 15 + 14 - 18 = 36",
        "25 / (15 - 15) + 14 - 18",
        "25 + 15 + 14 - - 18",
        "25 15",
        "(25 + 15 + 14 - 18",
        "__import__('os')",
        "9" * 5000,
        "(" * 5000,
        "1" + "+1" * 5000,
        "",
    ],
)
def test_check_answer_refuses(expression: str) -> None:
    assert not countdown.check_answer(EXAMPLE, expression)


def test_division_must_be_exact() -> None:
    assert countdown.check_answer(Instance((8, 4, 1, 1), 2), "8 / 4 * 1 * 1")
    assert not countdown.check_answer(Instance((7, 2, 2, 1), 7), "7 / 2 * 2 * 1")


@given(st.text())
def test_any_text_is_safe(text: str) -> None:
    assert not countdown.check_answer(EXAMPLE, text)
    countdown.label_steps(EXAMPLE, [text])
    normal_form(text)


@given(st.text(alphabet="0123456789+-*/() x", max_size=40))
def test_normal_form_is_its_own_normal_form(text: str) -> None:
    form = normal_form(text)
    if form is not None:
        assert normal_form(form) == form


@pytest.mark.parametrize(
    ("expression", "equal"),
    [
        ("((25 + 15) + 14) - 18", "14 + (15 + (25 - 18))"),
        ("2 * (3 + 4)", "(4 + 3) * 2"),
        ("12 - (5 - 3)", "12 + 3 - 5"),
        ("12 / (6 / 2)", "2 * 12 / 6"),
        ("(((7)))", "7"),
    ],
)
def test_normal_form_groups(expression: str, equal: str) -> None:
    assert normal_form(expression) == normal_form(equal)


@pytest.mark.parametrize(("expression", "other"), [("6 - 2", "2 + 6"), ("2 * 3 + 4", "2 * (3 + 4)"), ("4", "2 + 2")])
def test_normal_form_tells_apart(expression: str, other: str) -> None:
    assert normal_form(expression) != normal_form(other)


def test_normal_form_of_no_expression() -> None:
    assert normal_form("no solution") is None


@pytest.mark.parametrize(
    "step",
    [
        "25 + 15 = 41 (left: 18, 14, 41)",
        "25 + 16 = 41 (left: 18, 14, 41)",
        "25 + 25 = 50 (left: 18, 14, 50)",
        "25 + 15 = 40 (left: 18, 40)",
        "25 + 15 = 40 (left: 18, 15, 40)",
        "15 - 25 = -10 (left: 18, 14, -10)",
        "25 / 15 = 1 (left: 18, 14, 1)",
        "25 + 15 = 40",
        "",
    ],
)
def test_a_step_that_is_not_valid_is_bad_and_so_is_every_later_step(step: str) -> None:
    assert countdown.label_steps(EXAMPLE, (step, *STEPS[1:])) == (False, False, False, True)


def test_a_step_that_loses_the_target_is_bad() -> None:
    step = "25 * 15 = 375 (left: 18, 14, 375)\n\n"
    assert countdown.label_steps(EXAMPLE, (step,)) == (False,)


def test_a_step_may_list_what_is_left_in_any_order() -> None:
    assert countdown.label_steps(EXAMPLE, ("25 + 15 = 40 (left: 40, 14, 18)",)) == (True,)


def test_a_wrong_answer_is_bad_after_good_steps() -> None:
    answer = "The answer is \\boxed{25 + 15 + 14 + 18}"
    assert countdown.label_steps(EXAMPLE, (*STEPS[:3], answer)) == (True, True, True, False)
