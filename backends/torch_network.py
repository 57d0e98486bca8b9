"""Reward models out of a folder, over transformers: a backbone that reads, and a head that says a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts.backends.optional import need
from tts.errors import ParameterError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXTRA = "torch"
FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
"""What of a model on the hub is fetched; no code is."""
TRANSFORMERS = {
    "token-classification": "AutoModelForTokenClassification",
    "sequence-classification": "AutoModelForSequenceClassification",
    "language": "AutoModelForCausalLM",
}
"""Heads that transformers has, with what loads them."""
OWN = {"two-layer": "score.", "value": "v_head.summary."}
"""Heads that it has not, with how the names of their weights begin."""
ARCHITECTURES = {
    "Qwen2ForProcessRewardModel": "two-layer",
    "Qwen2ForRewardModel": "two-layer",
    "Qwen2ForPrmModel": "value",
    "ForTokenClassification": "token-classification",
    "ForSequenceClassification": "sequence-classification",
    "ForCausalLM": "language",
}
"""How the architecture that a configuration names ends, with the head that this means; the first that fits."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
"""Of weights; "auto" is that in which they were saved."""
CHANGES_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Settings of language models that do something to logits behind the head, which is not done here."""


@dataclass(frozen=True, slots=True)
class TorchNetwork:
    """A model that is loaded.

    Attributes:
        folder: Where it is.
        head: Which head it has.
        outputs: How many numbers the head says of a token: classes, or the vocabulary of a language model.
        context: The longest sequence that it reads, in tokens; None if its configuration does not say.
        vocabulary: How many tokens it knows.
        parameters: Weights of backbone and head, embeddings included.
        dtype: Of its weights, as torch names it.
        backbone: Token ids in, hidden states out.
        layer: The head.
    """

    folder: Path
    head: str
    outputs: int
    context: int | None
    vocabulary: int
    parameters: int
    dtype: str
    backbone: Any
    layer: Any

    def logits(self, sequences: Sequence[Sequence[int]], places: Sequence[Sequence[int]]) -> Any:
        """Return what the head says at each place of each sequence: float32, shape (places in all, outputs).

        Rows are padded on the right, which a model that reads from left to right does not see.
        """
        torch = need("torch", EXTRA)
        device = next(self.layer.parameters()).device
        longest = max(map(len, sequences))
        ids = torch.zeros((len(sequences), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(list(sequence))
            mask[row, : len(sequence)] = 1
        rows = [row for row, at in enumerate(places) for _ in at]
        columns = [place for at in places for place in at]
        with torch.inference_mode():
            states = self.backbone(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
            return self.layer(states.last_hidden_state[rows, columns]).float().cpu()


def find_model(model: str | Path) -> tuple[Path, str | None]:
    """Return the folder of a model: itself, or one into which it is fetched from the hub, and then of which snapshot.

    Raises:
        ParameterError: There is neither a folder nor a model of that name that can be fetched.
    """
    if not str(model):
        raise ParameterError("name a folder with a model, or a model on the hub")
    if Path(model).is_dir():
        return Path(model).resolve(), None
    hub = need("huggingface_hub", EXTRA)
    try:
        folder = Path(hub.snapshot_download(str(model), allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:
        raise ParameterError(f"{model} is no folder, and cannot be fetched from the hub: {error}") from error
    return folder, folder.name


def load_tokenizer(folder: Path) -> Any:
    """Load a model's tokenizer; no code of the folder is run.

    Raises:
        ParameterError: It has none that can be read.
    """
    try:
        return need("transformers", EXTRA).AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ParameterError(f"{folder}: its tokenizer cannot be loaded: {error}") from error


def load(folder: Path, head: str | None, dtype: str, device: str) -> TorchNetwork:
    """Load a model; no code of the folder is run.

    Raises:
        UnknownNameError: There is no such head.
        ParameterError: It does not say which head it has, lacks weights, or is of a kind that is not read here; or
            there is no such device.
        MissingExtraError: The extra "torch" is not installed.
    """
    transformers = need("transformers", EXTRA)
    _check_device(device)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        head = head or _told(folder, config)
        if head not in TRANSFORMERS and head not in OWN:
            raise UnknownNameError("head", head, [*TRANSFORMERS, *OWN])
        backbone, layer = _load(folder, config, head, dtype)
    except (OSError, ValueError, need("safetensors", EXTRA).SafetensorError) as error:
        raise ParameterError(f"{folder} cannot be loaded: {error}") from error
    both = need("torch", EXTRA).nn.ModuleList([backbone, layer]).eval().to(device)
    return TorchNetwork(
        folder=folder,
        head=head,
        outputs=config.vocab_size if head == "language" else _outputs(layer),
        context=getattr(config, "max_position_embeddings", None),
        vocabulary=config.vocab_size,
        parameters=sum(weights.numel() for weights in both.parameters()),
        dtype=str(backbone.dtype).removeprefix("torch."),
        backbone=backbone,
        layer=layer,
    )


def _check_device(device: str) -> None:
    try:
        need("torch", EXTRA).empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the second where torch is built without it
        raise ParameterError(f"device={device!r} cannot be used: {error}") from error


def _told(folder: Path, config: Any) -> str:
    names = config.architectures or []
    for ending, head in ARCHITECTURES.items():
        if any(name.endswith(ending) for name in names):
            return head
    raise ParameterError(f"{folder} names the architectures {names}, which tell no head: give head=")


def _load(folder: Path, config: Any, head: str, dtype: str) -> tuple[Any, Any]:
    transformers = need("transformers", EXTRA)
    factory = getattr(transformers, TRANSFORMERS.get(head, "AutoModel"))
    model, report = factory.from_pretrained(
        folder, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True
    )
    if report["missing_keys"]:
        raise ParameterError(f"{folder} has no weights {sorted(report['missing_keys'])}, which head {head!r} needs")
    if head in OWN:
        return model, _own(folder, head, model.dtype)
    if head == "language":
        changed = [name for name in CHANGES_LOGITS if getattr(config, name, None) not in (None, 1, 1.0)]
        if changed:
            raise ParameterError(f"{folder} changes logits by {', '.join(changed)}, which is not done here")
        return model.base_model, model.get_output_embeddings()
    if not hasattr(model, "score"):
        raise ParameterError(
            f"{type(model).__name__} has no head `score` at every token; only models that read from left to right are "
            "read here, since in others a step's score hangs on later steps"
        )
    return model.base_model, model.score


def _own(folder: Path, head: str, dtype: Any) -> Any:
    """Make a head that transformers does not have, out of its weights."""
    linear, begins = need("torch", EXTRA).nn.Linear, OWN[head]
    weights = _weights(folder, begins)
    wanted = ("0.weight", "0.bias", "2.weight", "2.bias") if head == "two-layer" else ("weight", "bias")
    if set(weights) != set(wanted):
        found = ", ".join(begins + name for name in sorted(weights)) or "none"
        raise ParameterError(f"{folder}: head {head!r} is made of {[begins + name for name in wanted]}; found {found}")
    shapes = [weights[name].shape for name in wanted if name.endswith("weight")]
    layers = [linear(shape[1], shape[0], dtype=dtype) for shape in shapes]
    if head == "value":
        layer = layers[0]
    else:
        layer = need("torch", EXTRA).nn.Sequential(layers[0], need("torch", EXTRA).nn.ReLU(), layers[1])
    layer.load_state_dict(weights)
    return layer


def _weights(folder: Path, begins: str) -> dict[str, Any]:
    """Return the weights whose names begin so, by the rest of their names."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with need("safetensors", EXTRA).safe_open(path, framework="pt") as tensors:
            names = [name for name in tensors.keys() if name.startswith(begins)]  # noqa: SIM118
            found |= {name.removeprefix(begins): tensors.get_tensor(name) for name in names}
    return found


def _outputs(layer: Any) -> int:
    last = layer[-1] if hasattr(layer, "__getitem__") else layer
    return int(last.out_features)
