"""The word-level tokenizer of the bundled models: whole numbers and glue strings, one token each."""

import json
import re
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

PADDING, END, UNKNOWN = "<pad>", "<eos>", "<unk>"
PADDING_ID, END_ID, UNKNOWN_ID = 0, 1, 2
FIRST_NUMBER_ID = 3
NUMBER_LIMIT = 1000
SIZE = 1024
LONGEST_SEQUENCE = 128
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
)
STEP_END_ID = FIRST_NUMBER_ID + NUMBER_LIMIT + GLUE.index("\n\n")
QUESTION_END_ID = FIRST_NUMBER_ID + NUMBER_LIMIT + GLUE.index(".\n")
# A question ends with a line feed; an answer begun already is continued as it is; a system message has no place.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'user' %}{{ message.content + '\\n' }}"
    "{% elif message.role == 'assistant' %}{{ message.content }}"
    "{% endif %}"
    "{% endfor %}"
)


def build_tokenizer() -> Tokenizer:
    """Return the tokenizer; text that is no number below 1000 and no glue becomes `<unk>`."""
    words = [PADDING, END, UNKNOWN, *map(str, range(NUMBER_LIMIT)), *GLUE]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN))
    pattern = "|".join([*(re.escape(glue).replace("\n", r"\n") for glue in GLUE), "[0-9]+"])
    tokenizer.pre_tokenizer = Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = Fuse()
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in (PADDING, END, UNKNOWN)])
    return tokenizer


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
