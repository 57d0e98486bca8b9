"""What a scripted vLLM server says when it is asked for scores, by the task that it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tts.fakes import letters
from tts.seeds import derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.backends.fake_vllm import FakeVLLM

TAG = ord("#")
"""The step tag of a server that has one."""
TASKS = {
    "/classify": {"classify": 200, "token_classify": 501, "step": 501},
    "/pooling": {"classify": 200, "token_classify": 200, "step": 200},
    "/v1/completions": {"generate": 200},
}
"""Which status a path has by task; any other is 404."""


def status(path: str, task: str | None) -> int:
    """What a server of a task answers with; one of no task does everything."""
    return 200 if task is None or path not in TASKS else TASKS[path].get(task, 404)


def classify(fake: FakeVLLM, body: Any) -> Any:
    rows = [probabilities(text_of(ids), fake.classes) for ids in body["input"]]
    return listed([{"probs": row, "num_classes": fake.classes} for row in rows], body["input"])


def pool(fake: FakeVLLM, body: Any) -> Any:
    if fake.task == "classify":
        return listed([{"data": probabilities(text_of(ids), fake.classes)} for ids in body["input"]], body["input"])
    several = []
    for ids in body["input"]:
        ends = [end for end in range(1, len(ids) + 1) if fake.task != "step" or ids[end - 1] == TAG]
        several.append([probabilities(text_of(ids[:end]), fake.classes) for end in ends])
    return listed([{"data": rows} for rows in several if rows], body["input"])


def verdicts(body: Any) -> Any:
    choices = []
    for index, ids in enumerate(body["prompt"]):
        told = {f"token_id:{label}": logit(text_of(ids), label) for label in [*body["logprob_token_ids"], 1]}
        choices.append({"index": index, "finish_reason": "length", "logprobs": {"top_logprobs": [told]}})
    return {"choices": choices, "usage": {"prompt_tokens": sum(map(len, body["prompt"]))}}


def listed(entries: list[dict[str, Any]], sent: Sequence[Sequence[int]]) -> Any:
    data = [{"index": index, "object": "score", **entry} for index, entry in enumerate(entries)]
    return {"data": data, "usage": {"prompt_tokens": sum(map(len, sent))}}


def probabilities(text: str, classes: int = 2) -> list[float]:
    """A score that hangs on the text alone."""
    good = derive("score", text) % 1000 / 1000
    return [good] if classes == 1 else [1 - good, good, *[0.0] * (classes - 2)]


def logit(text: str, label: int) -> float:
    return -(derive("label", text, label) % 500) / 100


def text_of(ids: Sequence[int]) -> str:
    return "".join(chr(token) for token in ids if token)


def tokens(text: str) -> list[int]:
    return letters(text).tolist()
