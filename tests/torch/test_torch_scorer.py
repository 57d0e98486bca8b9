"""The scorer over transformers: its clauses, what it refuses, and that nothing is read twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.torch import models
from tts.backends.torch_scorer import TorchScorer
from tts.errors import EngineDeadError, NeedsError, ParameterError, ProblemError, ScoreValueError, UnknownNameError
from tts.testing import check_scorer
from tts.types import Message

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = "What is 2+2?"
STEPS = ("It is 2 more than 2.\n\n", "The answer is 4")
LONG = [[7 + (length + place) % 90 for place in range(length)] for length in (40, 7, 23, 31)]


@pytest.mark.parametrize("kind", ["qwen_prm", "skywork_prm", "token_classifier", "sequence_classifier"])
async def test_the_clauses_are_kept(tmp_path: Path, kind: str) -> None:
    folder = getattr(models, kind)(tmp_path)
    await check_scorer(lambda: TorchScorer(folder, remembered=0, rows=2), QUESTION, STEPS)


async def test_the_clauses_are_kept_with_labels(tmp_path: Path) -> None:
    folder = models.llama(tmp_path)
    await check_scorer(lambda: TorchScorer(folder, remembered=0), QUESTION, STEPS, labels=(20, 22, 30))


async def test_concurrent_callers_share_passes_and_get_their_own(tmp_path: Path) -> None:
    folder = models.token_classifier(tmp_path)
    alone = TorchScorer(folder, remembered=0, rows=1)
    expected = [(await alone.probabilities([ids], [[3, len(ids) - 1]]))[0] for ids in LONG]
    await alone.aclose()
    scorer, found = TorchScorer(folder, rows=4), dict[int, Any]()

    async def ask(place: int) -> None:
        ids = LONG[place % len(LONG)]
        found[place] = (await scorer.probabilities([ids], [[3, len(ids) - 1]]))[0]

    async with anyio.create_task_group() as tasks:
        for place in range(2 * len(LONG)):
            tasks.start_soon(ask, place)
    await scorer.aclose()
    assert scorer.read == len(LONG)
    for place, rows in found.items():
        for row, other in zip(rows, expected[place % len(LONG)], strict=True):
            assert list(row) == pytest.approx(list(other), abs=1e-5)


async def test_a_prefix_is_told_by_the_sequence_that_it_begins(tmp_path: Path) -> None:
    scorer = TorchScorer(models.token_classifier(tmp_path))
    ids = LONG[0]
    ((early,), (late, same)) = await scorer.probabilities([ids[:10], ids], [[9], [39, 9]])
    await scorer.aclose()
    assert early == same != late and scorer.read == 1


async def test_positions_keep_their_order_and_may_be_none(tmp_path: Path) -> None:
    scorer = TorchScorer(models.token_classifier(tmp_path))
    first, none, turned = await scorer.probabilities([LONG[0], LONG[1], LONG[0]], [[5, 20], [], [20, 5, 5]])
    await scorer.aclose()
    assert none == [] and turned == [first[1], first[0], first[0]]


@pytest.mark.parametrize(
    ("sequence", "places", "said"),
    [
        ([5] * 513, [512], "513 tokens are more than the 512 that torch/"),
        ([5] * 3, [3], r"positions \[3\] do not lie in a sequence of 3 tokens"),
        ([5, 288], [1], "token ids lie in 5 to 288; torch/.* knows 288"),
        ([-1, 5], [1], "token ids lie in -1 to 5"),
    ],
)
async def test_what_cannot_be_read_is_refused(
    tmp_path: Path, sequence: list[int], places: list[int], said: str
) -> None:
    scorer = TorchScorer(models.token_classifier(tmp_path))
    with pytest.raises(ParameterError, match=said):
        await scorer.probabilities([sequence], [places])
    with pytest.raises(ParameterError, match="1 sequences, but positions for 2"):
        await scorer.probabilities([[5]], [[0], [0]])
    assert len((await scorer.probabilities([[5] * 512], [[511]]))[0]) == 1
    await scorer.aclose()


async def test_labels_are_for_language_models_and_needed_there(tmp_path: Path) -> None:
    classes = TorchScorer(models.token_classifier(tmp_path / "classes"))
    with pytest.raises(NeedsError, match="2 classes, and takes no labels"):
        await classes.probabilities([[5]], [[0]], labels=[1, 2])
    language = TorchScorer(models.llama(tmp_path / "language"))
    with pytest.raises(NeedsError, match="next tokens: give labels"):
        await language.probabilities([[5]], [[0]])
    with pytest.raises(ParameterError, match=r"labels \[288\] are not token ids below 288"):
        await language.probabilities([[5]], [[0]], labels=[288])
    assert language.capabilities.labels and language.capabilities.classes == 0
    assert language.capabilities.context == 512


async def test_a_closed_scorer_says_so(tmp_path: Path) -> None:
    scorer = TorchScorer(models.token_classifier(tmp_path))
    await scorer.aclose()
    with pytest.raises(EngineDeadError, match="was closed"):
        await scorer.probabilities([[5]], [[0]])


async def test_raw_rewards_are_for_a_single_output(tmp_path: Path) -> None:
    folder = models.sequence_classifier(tmp_path / "one", classes=1)
    raw, activated = TorchScorer(folder, activation="none"), TorchScorer(folder)
    (((reward,),),) = await raw.probabilities([LONG[0]], [[39]])
    (((chance,),),) = await activated.probabilities([LONG[0]], [[39]])
    assert chance == pytest.approx(float(torch.tensor(reward).sigmoid()), abs=1e-6)
    assert [one.capabilities.fingerprint["activation"] for one in (raw, activated)] == ["none", "sigmoid"]
    with pytest.raises(ParameterError, match="activation='none' is for a single output"):
        TorchScorer(models.sequence_classifier(tmp_path / "two"), activation="none")


async def test_weights_that_are_no_numbers_are_an_error_and_not_a_score(tmp_path: Path) -> None:
    folder = models.token_classifier(tmp_path)
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["score.bias"] = torch.full_like(weights["score.bias"], torch.nan)
    save_file(weights, path, metadata={"format": "pt"})
    scorer = TorchScorer(folder)
    with pytest.raises(ScoreValueError, match=r"position 0: .* are no finite numbers"):
        await scorer.probabilities([[5]], [[0]])
    await scorer.aclose()


async def test_the_folder_s_template_and_another(tmp_path: Path) -> None:
    folder, asked = models.token_classifier(tmp_path), [Message(role="user", content="1+1?")]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    plain = tokenizer.apply_chat_template([{"role": "user", "content": "1+1?"}], add_generation_prompt=True)
    assert list(await TorchScorer(folder).encode(asked)) == list(plain["input_ids"])
    refusing = TorchScorer(folder, template="{{ raise_exception('no such role') }}")
    with pytest.raises(ProblemError, match="no such role"):
        await refusing.encode(asked)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ParameterError, match="has no chat template"):
        await TorchScorer(folder).encode(asked)


def test_a_head_whose_weights_are_not_there_is_refused(tmp_path: Path) -> None:
    folder = models.llama(tmp_path)
    with pytest.raises(ParameterError, match=r"no weights \['score.weight'\], which head 'sequence-classification'"):
        TorchScorer(folder, head="sequence-classification")
    with pytest.raises(ParameterError, match=r"head 'two-layer' is made of .*; found none"):
        TorchScorer(folder, head="two-layer")
    with pytest.raises(ParameterError, match=r"head 'value' is made of \['v_head.summary.weight'"):
        TorchScorer(folder, head="value")
    with pytest.raises(UnknownNameError, match="unknown head 'values'; did you mean value"):
        TorchScorer(folder, head="values")


def test_a_model_that_reads_both_ways_is_refused(tmp_path: Path) -> None:
    sizes = {name: size for name, size in models.SIZES.items() if name != "num_key_value_heads"}
    folder = models.write_model(tmp_path, "BertForTokenClassification", transformers.BertConfig(**sizes))
    with pytest.raises(ParameterError, match="only models that read from left to right"):
        TorchScorer(folder)


def test_a_model_that_changes_its_logits_is_refused(tmp_path: Path) -> None:
    folder = models.write_model(tmp_path, "CohereForCausalLM", transformers.CohereConfig(**models.SIZES))
    with pytest.raises(ParameterError, match="changes logits by logit_scale"):
        TorchScorer(folder)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no/such/model is no folder, and cannot be fetched"):
        TorchScorer("no/such/model")
    with pytest.raises(ParameterError, match="cannot be loaded"):
        TorchScorer(tmp_path)


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = models.token_classifier(tmp_path)
    with pytest.raises(ParameterError, match="device='gpu' cannot be used"):
        TorchScorer(folder, device="gpu")
    with pytest.raises(ParameterError, match="device='cuda:99' cannot be used"):
        TorchScorer(folder, device="cuda:99")


def test_a_folder_that_is_damaged_is_refused(tmp_path: Path) -> None:
    folder = models.token_classifier(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ParameterError, match="its tokenizer cannot be loaded"):
        TorchScorer(folder)
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ParameterError, match="cannot be loaded"):
        TorchScorer(folder)


async def test_a_model_of_the_hub_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models.token_classifier(tmp_path / "snapshots" / "0a1b2c")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda model, **options: str(folder))
    able = TorchScorer("somebody/a-model").capabilities
    assert able.name == "torch/a-model"
    assert (able.fingerprint["model"], able.fingerprint["snapshot"]) == ("somebody/a-model", "0a1b2c")
    own = TorchScorer(folder).capabilities
    assert (own.name, own.fingerprint["model"], own.fingerprint["snapshot"]) == ("torch/0a1b2c", "0a1b2c", None)
