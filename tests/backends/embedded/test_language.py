"""Chat templates, unknown text, and text that comes token by token."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel, Metaspace
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel as ByteLevelSplit

from tts.backends.embedded.folder import Folder, find_folder
from tts.backends.language import Language, Transcript
from tts.errors import ParameterError, ProblemError, UnknownNameError
from tts.types import Message

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def plain(policy: Path) -> Language:
    return Language(policy)


@pytest.fixture(scope="session")
def bytewise(tmp_path_factory: pytest.TempPathFactory) -> Language:
    """A tokenizer whose every token is one byte, so that most characters take several."""
    folder = tmp_path_factory.mktemp("bytes")
    tokenizer = Tokenizer(BPE({byte: index for index, byte in enumerate(sorted(ByteLevelSplit.alphabet()))}, []))
    tokenizer.pre_tokenizer = ByteLevelSplit(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return Language(folder, template="{{ messages[0].content }}")


def user(content: str) -> Message:
    return Message(role="user", content=content)


def test_the_template_sees_roles_and_special_tokens(policy: Path) -> None:
    template = (
        "{{ eos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{{ add_generation_prompt }}"
    )
    language = Language(policy, template)
    assert language.render([user("a")]) == "<eos><user>aTrue"
    begun = [user("a"), Message(role="assistant", content="b")]
    assert language.render(begun) == "<eos><user>a<assistant>bFalse"


def test_a_refusing_or_broken_template_is_a_typed_error(policy: Path, plain: Language) -> None:
    with pytest.raises(ProblemError, match="no system turns"):
        plain.render([Message(role="system", content="s")])
    with pytest.raises(ParameterError, match="cannot be read"):
        Language(policy, "{% for %}")
    with pytest.raises(ProblemError, match="refuses"):
        Language(policy, "{{ ''.__class__.__mro__ }}").render([user("a")])


def test_a_folder_without_a_template_is_refused(policy: Path, tmp_path: Path) -> None:
    shutil.copy(policy / "tokenizer.json", tmp_path)
    with pytest.raises(ParameterError, match="no chat template"):
        Language(tmp_path)


def test_an_unknown_piece_is_named_with_what_is_known(plain: Language) -> None:
    with pytest.raises(ProblemError, match=r"'x y' \(at character 4\); it reads sums"):
        plain.tokenize("Use x y, 3")


def test_text_comes_back_from_its_tokens(plain: Language) -> None:
    text = "Use 3, 4 to make 7.\n3 + 4 = 7"
    assert plain.decode(plain.tokenize(text)) == text


@given(text=st.text(max_size=12), before=st.text(max_size=5))
def test_characters_wait_for_all_their_bytes(bytewise: Language, text: str, before: str) -> None:
    transcript = Transcript(bytewise, bytewise.tokenize(before))
    for token in bytewise.tokenize(text):
        transcript.add(token)
        assert text.startswith(transcript.text) or "\N{REPLACEMENT CHARACTER}" in text
    transcript.close()
    assert transcript.text == text


def test_an_unfinished_character_is_shown_at_the_end(bytewise: Language) -> None:
    transcript = Transcript(bytewise, [])
    for token in bytewise.tokenize("aé")[:-1]:
        transcript.add(token)
    assert transcript.text == "a"
    transcript.close()
    assert transcript.text == "a\N{REPLACEMENT CHARACTER}"


def test_a_leading_space_is_kept_after_other_words(tmp_path: Path) -> None:
    tokenizer = Tokenizer(WordLevel({"▁one": 0, "▁two": 1}, unk_token="▁one"))
    tokenizer.decoder = Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    transcript = Transcript(Language(tmp_path, "{{ 1 }}"), [0])
    transcript.add(1)
    assert transcript.text == " two"


def test_models_are_found_by_name_or_path(policy: Path, tmp_path: Path) -> None:
    assert find_folder(policy).name == "embedded/policy"
    with pytest.raises(UnknownNameError, match="arithmetic-policy"):
        find_folder("arithmetic-polcy")
    with pytest.raises(ParameterError, match=r"embedded\.export"):
        find_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"a": 1}))
    assert Folder(tmp_path).json("tokenizer_config.json") == {"a": 1}
    assert Folder(tmp_path).json("tts.json") == {}
