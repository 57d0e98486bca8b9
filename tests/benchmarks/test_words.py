"""Word problems: instances, text, routes, answers, labels and the split."""

from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts.benchmarks.tasks import words
from tts.benchmarks.tasks.words_templates import BY_BLANKED, FORMS, words_of

SEEDS = st.integers(0, 2**32 - 1)
TEXT = (
    "Tom has 20 marbles. Mia has 3 times as many marbles as Tom. Mia is 12 years old. "
    "Each of 4 friends gives her 6 red and 5 blue marbles. How many marbles does Mia have now?"
)
EXAMPLE = words.parse_question(TEXT)
SHORT = ("20 * 3 = 60\n\n", "6 + 5 = 11\n\n", "4 * 11 = 44\n\n", "60 + 44 = 104\n\n", "The answer is \\boxed{104}")


def test_the_example() -> None:
    assert words.question(EXAMPLE) == TEXT
    assert EXAMPLE.template == "start.0 times.0 idle.0 bring.0 ask.0"
    assert (words.answer(EXAMPLE), words.step_count(EXAMPLE)) == (104, 4)
    assert SHORT in [words.route_text(EXAMPLE, route) for route in words.routes(EXAMPLE)]


@given(SEEDS)
def test_question_and_parse_are_inverse(seed: int) -> None:
    instance = words.draw_problem(Random(seed))
    assert words.parse_question(words.question(instance)) == instance


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Use 1, 2, 3, 4 to make 10.",
        TEXT.replace("Mia is", "Zoe is"),
        TEXT.replace("gives her", "gives him"),
        TEXT.replace("as Tom", "as Mia"),
        TEXT.replace("20", "020"),
        TEXT.replace("20", "400"),
        TEXT.replace("20", "9" * 5000),
        TEXT.removeprefix("Tom has 20 marbles. "),
        TEXT.removesuffix(" How many marbles does Mia have now?"),
        "Tom has 20 marbles. How many marbles does Tom have now?",
        (
            "Tom has 20 marbles. Tom splits the marbles equally among 3 jars and keeps one jar. "
            "Then he wins 4 bags with 5 marbles in each. How many marbles does Tom have now?"
        ),
    ],
)
def test_parse_question_refuses_other_text(text: str) -> None:
    with pytest.raises(ValueError, match="not a word problem"):
        words.parse_question(text)


@given(SEEDS)
def test_every_route_reaches_the_answer_and_is_good(seed: int) -> None:
    instance = words.draw_problem(Random(seed))
    routes = words.routes(instance)
    assert len(set(routes)) == len(routes)
    assert min(map(len, routes)) == len(routes[0]) == words.step_count(instance)
    for route in routes:
        assert route[-1].result == words.answer(instance)
        assert all(1 <= step.result <= 999 for step in route)
        assert all(words.label_steps(instance, words.route_text(instance, route)))


@given(SEEDS)
def test_a_drawn_route_is_one_of_the_routes(seed: int) -> None:
    rng = Random(seed)
    instance = words.draw_problem(rng)
    assert words.draw_route(instance, rng) in words.routes(instance)


def test_drawn_routes_differ() -> None:
    rng = Random(0)
    drawn = {words.draw_route(EXAMPLE, rng) for _ in range(300)}
    assert drawn == set(words.routes(EXAMPLE))


@given(SEEDS, st.data())
def test_a_changed_number_makes_a_step_bad_and_all_after_it(seed: int, data: st.DataObject) -> None:
    rng = Random(seed)
    instance = words.draw_problem(rng)
    parts = list(words.route_text(instance, words.draw_route(instance, rng)))
    place = data.draw(st.integers(0, len(parts) - 2))
    tokens = parts[place].split(" ")
    which = data.draw(st.sampled_from([0, 2, 4]))
    tokens[which] = str(int(tokens[which]) + data.draw(st.integers(1, 9)))
    parts[place] = " ".join(tokens)
    labels = words.label_steps(instance, parts)
    assert labels == tuple(index < place or index == len(parts) - 1 for index in range(len(parts)))


@pytest.mark.parametrize(
    "step",
    [
        "3 * 20 = 60",
        "20 * 3 = 60",
        "6 + 5 = 11\n\n",
        "4 * 6 = 24",
        "5 * 4 = 20",
    ],
)
def test_a_first_step_of_some_route_is_good(step: str) -> None:
    assert words.label_steps(EXAMPLE, (step,)) == (True,)


@pytest.mark.parametrize(
    "step",
    [
        "20 * 3 = 61",
        "20 + 3 = 23",
        "20 * 12 = 240",
        "4 * 11 = 44",
        "6 - 5 = 1",
        "60 + 44 = 104",
        "20 * 3 = 60 (left: 60)",
        "so 20 * 3 = 60",
        "",
    ],
)
def test_a_step_of_no_route_is_bad_and_so_is_every_later_step(step: str) -> None:
    assert words.label_steps(EXAMPLE, (step, *SHORT)) == (False, False, False, False, False, True)


def test_a_step_done_twice_is_bad() -> None:
    assert words.label_steps(EXAMPLE, (SHORT[0], SHORT[0], SHORT[1])) == (True, False, False)


def test_steps_of_two_ways_do_not_mix() -> None:
    assert words.label_steps(EXAMPLE, ("6 + 5 = 11", "4 * 6 = 24")) == (True, False)
    assert words.label_steps(EXAMPLE, ("4 * 6 = 24", "20 * 3 = 60", "60 + 24 = 84")) == (True, True, True)


def test_an_answer_is_judged_alone() -> None:
    assert words.label_steps(EXAMPLE, ("nonsense", SHORT[-1])) == (False, True)
    assert words.label_steps(EXAMPLE, (*SHORT[:4], "The answer is \\boxed{105}")) == (True, True, True, True, False)


@given(st.text())
def test_any_text_is_safe(text: str) -> None:
    assert not words.check_answer(EXAMPLE, "1" + text + "1")
    words.label_steps(EXAMPLE, [text])


def test_no_held_out_template_is_trained_on() -> None:
    trained = {instance.template for instance in islice(words.training_instances(Random(5)), 2000)}
    held_out = {instance.template for instance in words.held_out(500, seed=5)}
    assert len(held_out) > 300
    assert not trained & held_out


def test_held_out_instances_are_distinct_and_repeatable() -> None:
    held_out = words.held_out(100, seed=3)
    assert held_out == words.held_out(100, seed=3) != words.held_out(100, seed=4)
    assert len(set(map(words.question, held_out))) == 100


def test_the_number_of_steps_is_uniform() -> None:
    rng = Random(1)
    counts = [words.step_count(words.draw_problem(rng)) for _ in range(4000)]
    assert all(850 < counts.count(steps) < 1150 for steps in words.STEP_COUNTS)


def test_forms_can_be_told_apart() -> None:
    assert len(BY_BLANKED) == sum(map(len, FORMS.values()))


@given(SEEDS)
def test_questions_are_short_and_of_known_words(seed: int) -> None:
    text = words.question(words.draw_problem(Random(seed)))
    assert set(words_of(text)) <= set(words.vocabulary())
    numbers = sum(word.isdigit() for word in text.replace(".", " ").replace(",", " ").split())
    assert len(words_of(text)) + 2 * numbers + sum(map(text.count, ".,?")) <= words.LONGEST_QUESTION


def test_the_vocabulary_is_sorted_words() -> None:
    vocabulary = words.vocabulary()
    assert list(vocabulary) == sorted(set(vocabulary))
    assert all(map(str.isalpha, vocabulary))
    assert len(vocabulary) <= 200
