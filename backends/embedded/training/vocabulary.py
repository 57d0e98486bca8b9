"""The word-level tokenizer of the bundled models: whole numbers, glue strings and words, one token each."""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from tts.benchmarks.tasks.words import vocabulary as words

PADDING, END, UNKNOWN = "<pad>", "<eos>", "<unk>"
PADDING_ID, END_ID, UNKNOWN_ID = 0, 1, 2
FIRST_NUMBER_ID = 3
NUMBER_LIMIT = 1000
SIZE = 1280
LONGEST_SEQUENCE = 128
STUCK = "I am stuck."
"""How the policy says that it sees no way on."""
GLUE = (
    "The answer is \\boxed{",
    " to make ",
    " (left: ",
    "Use ",
    "\n\n",
    " + ",
    " - ",
    " * ",
    " / ",
    " = ",
    ", ",
    ".\n",
    "(",
    ")",
    "}",
    STUCK,
    "?\n",
    ".",
    "?",
    " ",
)
"""Text between numbers; what begins another stands after it, but for single characters."""
GLUE_IDS = {glue: FIRST_NUMBER_ID + NUMBER_LIMIT + index for index, glue in enumerate(GLUE)}
STUCK_ID = GLUE_IDS[STUCK]
STEP_END_ID = GLUE_IDS["\n\n"]
# A question ends with a line feed; an answer begun already is continued as it is; a system message has no place.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'user' %}{{ message.content + '\\n' }}"
    "{% elif message.role == 'assistant' %}{{ message.content }}"
    "{% endif %}"
    "{% endfor %}"
)


@cache
def build_tokenizer() -> Tokenizer:
    """Return the tokenizer; text that is no number below 1000, no glue and no word of the tasks becomes `<unk>`."""
    written = [
        PADDING,
        END,
        UNKNOWN,
        *map(str, range(NUMBER_LIMIT)),
        *GLUE,
        *words(),
        *(f" {word}" for word in words()),
    ]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(written)}, unk_token=UNKNOWN))
    glue = sorted(GLUE, key=len, reverse=True)
    escaped = [re.escape(text).replace("\\\n", r"\n") for text in glue if text != " "]
    pattern = "|".join([*escaped, "[0-9]+", " ?[A-Za-z]+", " "])
    tokenizer.pre_tokenizer = Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = Fuse()
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in (PADDING, END, UNKNOWN)])
    return tokenizer


def encoded(question: str, parts: Sequence[str]) -> tuple[list[int], int, list[int]]:
    """Return the tokens of an attempt, where it begins, and where each of its parts ends; with the end of sequence."""
    tokenizer = build_tokenizer()
    row: list[int] = tokenizer.encode(question + "\n").ids
    begin, ends = len(row), []
    for part in parts:
        row += tokenizer.encode(part).ids
        ends.append(len(row) - 1)
    return [*row, END_ID], begin, ends


def save_tokenizer(folder: Path) -> None:
    """Write the tokenizer and its chat template in the layout of Hugging Face."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PADDING,
        "eos_token": END,
        "unk_token": UNKNOWN,
        "model_max_length": LONGEST_SEQUENCE,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
