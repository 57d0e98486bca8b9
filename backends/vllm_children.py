"""What vLLM says of a child, in a reply or in this process: why it ended, and its text made whole."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tts.errors import BackendError, TransientError
from tts.types import Completion, Finish

if TYPE_CHECKING:
    from tts.protocols import GenerationRequest

NEUTRAL = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "min_p": 0.0}
"""Asked for always: where they are left out, a server takes what the model's generation_config.json says."""


@dataclass(slots=True)
class Child:
    """A child as far as it has come."""

    text: str = ""
    token_ids: array[int] = field(default_factory=lambda: array("i"))
    logprobs: array[float] = field(default_factory=lambda: array("f"))
    top_logprobs: array[float] = field(default_factory=lambda: array("f"))
    finished: bool = False


def completion_of(
    where: str, request: GenerationRequest, child: Child, finish_reason: str, stop_reason: str | int | None
) -> Completion:
    """Return a child that is complete, with vLLM's two words on why.

    Raises:
        TransientError: vLLM gave it up.
        BackendError: It is not what was asked for; `where` says whose it is.
    """
    return Completion(
        child.text,
        _finish(where, request, child, finish_reason, stop_reason),
        len(child.token_ids),
        child.token_ids,
        child.logprobs if request.logprobs else None,
        child.top_logprobs if request.top_logprobs else None,
    )


def _finish(where: str, request: GenerationRequest, child: Child, reason: str, stopped_by: str | int | None) -> Finish:
    if reason == "length":
        if len(child.token_ids) != request.max_tokens:
            raise BackendError(
                f"{where}: cut off at {len(child.token_ids)} tokens where {request.max_tokens} were allowed: the "
                "server or something before it lowers max_tokens"
            )
        return Finish.LENGTH
    if reason in ("abort", "error"):
        raise TransientError(f"{where}: the server gave it up ({reason})")
    if reason != "stop":
        raise BackendError(f"{where}: ended for a reason that is not known here, {reason!r}")
    if not isinstance(stopped_by, str):
        return Finish.EOS  # a number is a token that ends a sequence; the text does not show it, the ids do
    if stopped_by not in child.text:
        raise BackendError(f"{where}: ended by {stopped_by!r}, which its text lacks: the server drops stop texts")
    if stopped_by in request.sampling.stops:
        return Finish.STOP
    if stopped_by in request.delimiters:
        return Finish.DELIMITER
    raise BackendError(f"{where}: ended by {stopped_by!r}, which nobody asked for")


def last_token(completion: Completion) -> int | None:
    """Return the token within which vLLM may have cut the text: it does so behind a text that ends it.

    The token stays in the path, so the text has to say all of it.
    """
    if completion.finish not in (Finish.DELIMITER, Finish.STOP) or not completion.token_ids:
        return None
    return completion.token_ids[-1]


def with_whole_text(completion: Completion, text: str) -> Completion:
    """Give back what was cut, where all that the tokens say begins with what is there."""
    return replace(completion, text=text) if text.startswith(completion.text) else completion
