"""The tokenizer of the bundled models: exact on the text of the task, and honest about any other."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tts.backends.embedded.training import vocabulary
from tts.benchmarks.tasks import words
from tts.benchmarks.tasks.countdown import draw_instance, draw_solution, question, solution_text

MODELS = Path(vocabulary.__file__).parents[1] / "models"
TOKENIZER = vocabulary.build_tokenizer()


@pytest.mark.parametrize("name", ["arithmetic-policy", "arithmetic-prm"])
def test_the_shipped_tokenizer_is_the_one_that_is_built(name: str) -> None:
    shipped = Tokenizer.from_file(str(MODELS / name / "tokenizer.json"))
    assert shipped.to_str() == TOKENIZER.to_str()


@given(st.integers(0, 2**32 - 1))
def test_task_text_survives_byte_for_byte(seed: int) -> None:
    rng = Random(seed)
    instance = draw_instance(rng)
    text = question(instance) + "\n" + "".join(solution_text(instance, draw_solution(instance, rng)))
    ids = TOKENIZER.encode(text).ids
    assert TOKENIZER.decode(ids) == text
    assert vocabulary.UNKNOWN_ID not in ids
    assert len(ids) <= vocabulary.LONGEST_SEQUENCE


@given(st.integers(0, 2**32 - 1))
def test_word_problems_survive_byte_for_byte(seed: int) -> None:
    rng = Random(seed)
    instance = words.draw_problem(rng)
    text = words.question(instance) + "\n" + "".join(words.route_text(instance, words.draw_route(instance, rng)))
    ids = TOKENIZER.encode(text).ids
    assert TOKENIZER.decode(ids) == text
    assert vocabulary.UNKNOWN_ID not in ids
    assert len(ids) <= vocabulary.LONGEST_SEQUENCE


@pytest.mark.parametrize("text", ["hello", "1000", "Tom has 3 llamas.", "007"])
def test_other_text_is_unknown(text: str) -> None:
    assert vocabulary.UNKNOWN_ID in TOKENIZER.encode(text).ids


def test_special_tokens() -> None:
    assert TOKENIZER.token_to_id(vocabulary.PADDING) == vocabulary.PADDING_ID
    assert TOKENIZER.token_to_id(vocabulary.END) == vocabulary.END_ID
    assert TOKENIZER.token_to_id(vocabulary.UNKNOWN) == vocabulary.UNKNOWN_ID
    assert TOKENIZER.token_to_id("\n\n") == vocabulary.STEP_END_ID
    assert TOKENIZER.token_to_id("0") == vocabulary.FIRST_NUMBER_ID
    assert TOKENIZER.get_vocab_size() <= vocabulary.SIZE
