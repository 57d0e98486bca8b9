"""What each kind of reward model says of each step, by transformers alone, as its authors' own code computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import load_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


def tokenizer_of(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


def model_of(folder: Path, kind: str = "AutoModel") -> Any:
    return getattr(transformers, kind).from_pretrained(folder, dtype="auto").eval()


def ids_of(folder: Path, text: str) -> torch.Tensor:
    return torch.tensor([tokenizer_of(folder)(text, add_special_tokens=False)["input_ids"]])


def conversation(folder: Path, turns: Sequence[tuple[str, str]], *, asks: bool) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    said: str = tokenizer_of(folder).apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
    return said


@torch.inference_mode()
def qwen_prm(folder: Path, question: str, steps: Sequence[str]) -> list[float]:
    answer = "".join(step.strip() + "<extra_0>" for step in steps)
    turns = [("system", QWEN_SYSTEM), ("user", question), ("assistant", answer)]
    ids = ids_of(folder, conversation(folder, turns, asks=False))
    states, head = model_of(folder)(input_ids=ids).last_hidden_state[0], load_file(folder / "model.safetensors")
    inner = torch.relu(states @ head["score.0.weight"].T + head["score.0.bias"])
    chances = (inner @ head["score.2.weight"].T + head["score.2.bias"]).float().softmax(-1)
    mark = tokenizer_of(folder).convert_tokens_to_ids("<extra_0>")
    return [float(value) for value in chances[ids[0] == mark][:, 1]]


@torch.inference_mode()
def skywork_prm(folder: Path, question: str, steps: Sequence[str]) -> list[float]:
    tokenizer, ids, ends = tokenizer_of(folder), [], []
    ids += tokenizer("<|endoftext|>" + question + "\n", add_special_tokens=False)["input_ids"]
    (mark,) = tokenizer("\n", add_special_tokens=False)["input_ids"]
    for step in steps:
        for line in step.strip().split("\n"):
            ids += [*tokenizer(line, add_special_tokens=False)["input_ids"], mark]
        ends.append(len(ids) - 1)
    model = model_of(folder, "Qwen2ForCausalLM")
    states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    head = load_file(folder / "model.safetensors")
    rewards = (states @ head["v_head.summary.weight"].T + head["v_head.summary.bias"]).float().sigmoid()
    return [float(rewards[end, 0]) for end in ends]


@torch.inference_mode()
def math_shepherd(folder: Path, question: str, steps: Sequence[str]) -> list[float]:
    ids = ids_of(folder, f"<s>{question} " + "\n".join(step.strip() + " ки" for step in steps))
    verdicts = [int(ids_of(folder, text)[0, 0]) for text in "+-"]
    chances = model_of(folder, "AutoModelForCausalLM")(input_ids=ids).logits[0][:, verdicts].float().softmax(-1)[:, 0]
    return [float(value) for value in chances[ids[0] == int(ids_of(folder, " ки")[0, 0])]]


@torch.inference_mode()
def rlhflow(folder: Path, question: str, steps: Sequence[str]) -> list[float]:
    model, turns, found = model_of(folder, "AutoModelForCausalLM"), [], []
    verdicts = [int(ids_of(folder, text)[0, 0]) for text in "+-"]
    for place, step in enumerate(steps):
        turns += [("user", step.strip() if place else f"{question} {step.strip()}"), ("assistant", "+")]
        ids = ids_of(folder, conversation(folder, turns, asks=False))
        # This template ends a turn by two tokens, so the verdict is the third from the end.
        assert int(ids[0, -3]) == verdicts[0]
        found.append(float(model(input_ids=ids).logits[0, -4, verdicts].float().softmax(-1)[0]))
    return found


@torch.inference_mode()
def verdict(folder: Path, question: str, said: str, labels: Sequence[str]) -> float:
    """Return how likely the first of two labels is what comes after something that the judge said."""
    ids = ids_of(folder, conversation(folder, [("user", question)], asks=True) + said)
    places = [int(ids_of(folder, label)[0, 0]) for label in labels]
    return float(model_of(folder, "AutoModelForCausalLM")(input_ids=ids).logits[0, -1, places].double().softmax(-1)[0])


@torch.inference_mode()
def token_classes(folder: Path, question: str, steps: Sequence[str]) -> list[float]:
    model, found = model_of(folder, "AutoModelForTokenClassification"), []
    start = conversation(folder, [("user", question)], asks=True)
    for count in range(1, len(steps) + 1):
        ids = ids_of(folder, start + "".join(steps[:count]))
        found.append(float(model(input_ids=ids).logits[0, -1].float().softmax(-1)[1]))
    return found


@torch.inference_mode()
def sequence_logits(folder: Path, question: str, answer: str) -> torch.Tensor:
    ids = ids_of(folder, conversation(folder, [("user", question)], asks=True) + answer)
    logits: torch.Tensor = model_of(folder, "AutoModelForSequenceClassification")(input_ids=ids).logits[0].float()
    return logits


def last_token_classes(folder: Path, question: str, steps: Sequence[str]) -> list[float]:
    ends = range(1, len(steps) + 1)
    return [float(sequence_logits(folder, question, "".join(steps[:end])).softmax(-1)[1]) for end in ends]
