"""How a vLLM server gives scores, found out by asking, without a token sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tts.backends.served import SAMPLE
from tts.backends.vllm_scores import EveryToken, Form, LastToken, NextToken, check_row, read
from tts.errors import BackendError, EngineDeadError, ParameterError, ScoreCountError, TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.http import Endpoint
    from tts.backends.served import RemoteLanguage

CLASSIFY = """vllm serve MODEL --runner pooling --pooler-config '{"task":"classify"}'"""
"""How a model that classifies is best served."""
GENERATE = "vllm serve MODEL"


async def find_form(
    endpoint: Endpoint, language: RemoteLanguage, model: str, step_tag: int | str | None
) -> tuple[Form | None, int]:
    """Return how the server gives classes, and how many there are; None and 0 where it does not.

    Raises:
        ParameterError: It gives them at a step tag, and `step_tag` is not that.
        VerifierError: What it gives are no probabilities.
    """
    sample = list(await language.tokenize(SAMPLE))
    said = await _try(endpoint, LastToken.path, model, sample)
    if said is not None:
        return LastToken(), _classes(endpoint, LastToken(), said, sample)
    said = await _try(endpoint, EveryToken.path, model, sample)
    if said is None or not _speaks_of_places(said):
        return None, 0
    if said["data"] and len(said["data"][0]["data"]) == len(sample):
        return EveryToken(), _classes(endpoint, EveryToken(), said, sample)
    form, sample = await _step_form(endpoint, language, step_tag), [*sample, 0]
    sample[-1] = form.tag or 0
    said = await _try(endpoint, EveryToken.path, model, sample)
    try:
        return form, _classes(endpoint, form, said, sample)
    except (ScoreCountError, BackendError) as error:
        raise ParameterError(f"step_tag={step_tag!r} is not the step_tag_id of {endpoint.name}: {error}") from error


async def generates(endpoint: Endpoint, model: str) -> bool:
    """Whether the server completes texts; it is asked for no token, which it refuses."""
    body = {"model": model, "prompt": SAMPLE, "max_tokens": 0}
    try:
        await endpoint.post(NextToken.path, body)
    except ParameterError:
        return True
    except (TransientError, EngineDeadError):
        raise
    except BackendError:
        return False
    return True


async def _try(endpoint: Endpoint, path: str, model: str, sequence: Sequence[int]) -> Any:
    try:
        return await endpoint.post(path, EveryToken().body(model, [sequence]))
    except (TransientError, EngineDeadError):
        raise
    except (BackendError, ParameterError):
        return None


def _speaks_of_places(said: Any) -> bool:
    """Whether there are rows, or none for want of step tags; otherwise it is one vector for the whole."""
    try:
        return all(isinstance(row, list) for entry in said["data"] for row in entry["data"])
    except (KeyError, TypeError):
        return False


async def _step_form(endpoint: Endpoint, language: RemoteLanguage, tag: int | str | None) -> EveryToken:
    if tag is None:
        raise ParameterError(
            f"{endpoint.name} gives scores at a step tag alone: say which token it is with step_tag= (its id or text), "
            f"or serve the model with {CLASSIFY}"
        )
    tokens = await language.tokenize(tag) if isinstance(tag, str) else (tag,)
    if len(tokens) != 1:
        raise ParameterError(f"step_tag={tag!r} is {len(tokens)} tokens to {endpoint.name}; a step tag is one")
    return EveryToken(tokens[0])


def _classes(endpoint: Endpoint, form: Form, said: Any, sequence: Sequence[int]) -> int:
    rows = read(endpoint.name, form, said, [sequence])[0]
    for row in rows.values():
        check_row(f"{endpoint.name}{form.path}", row, len(row))
    return len(next(iter(rows.values())))
