"""What goes to vLLM's `/v1/completions` and what comes back, without any input or output of its own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tts.backends.vllm_children import NEUTRAL, Child, completion_of
from tts.errors import BackendError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tts.protocols import GenerationRequest
    from tts.types import Completion


def body_of(
    model: str, prompt: Sequence[int], request: GenerationRequest, *, priority: int | None, special_tokens: bool = False
) -> dict[str, Any]:
    """Return the request for a path's children.

    Child j is drawn with seed + j: so does vLLM for sample j of a prompt. Drawn without chance, it refuses n > 1, and
    gets the prompt n times.
    """
    sampling = request.sampling
    stops = [*request.delimiters, *sampling.stops]
    greedy = sampling.temperature == 0 and request.count > 1
    body: dict[str, Any] = {
        "model": model, "prompt": [list(prompt)] * request.count if greedy else list(prompt),
        "n": 1 if greedy else request.count, "seed": request.seed, "max_tokens": request.max_tokens,
        "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k,
        "skip_special_tokens": not special_tokens, "return_token_ids": True, **NEUTRAL,
    }  # fmt: skip
    if stops:
        body |= {"stop": stops, "include_stop_str_in_output": True}
    if request.logprobs or request.top_logprobs:
        body |= {"logprobs": request.top_logprobs, "return_tokens_as_token_ids": True}
    if request.cancellable:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if priority is not None:
        body["priority"] = priority
    return body


class Reply:
    """What a server says to one request, whole or in pieces, checked as it comes.

    Attributes:
        children: As far as they have come.
        usage: What the server counted, once it has said so.
        faults: What is wrong with single children; the others are good all the same.
    """

    def __init__(self, server: str, request: GenerationRequest, prompt_tokens: int) -> None:
        self.children = [Child() for _ in range(request.count)]
        self.usage: dict[str, Any] = {}
        self.faults: list[BackendError] = []
        self._server = server
        self._request = request
        self._prompt_tokens = prompt_tokens

    def take(self, said: Any) -> list[tuple[int, Completion | None]]:
        """Return for each choice its child's index, and the completion if it is complete with this.

        What is wrong with a choice is added to `faults`, for others may be complete beside it.

        Raises:
            BackendError: The server read another prompt, or this is no list of choices.
        """
        with self._form_of(said):
            if said.get("usage"):
                self._check_prompt(said["usage"])
            choices = list(said["choices"])
        came = []
        for choice in choices:
            try:
                with self._form_of(choice):
                    came.append(self._take(choice))
            except BackendError as fault:
                self.faults.append(fault)
        return came

    @contextmanager
    def _form_of(self, said: Any) -> Iterator[None]:
        try:
            yield
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise BackendError(f"{self._server}: a reply of another form ({error!r}): {str(said)[:200]}") from None

    def check(self) -> None:
        """Raise what was wrong with a child: what does not pass before what may.

        Raises:
            BackendError: Something was.
        """
        if self.faults:
            raise min(self.faults, key=lambda fault: isinstance(fault, TransientError))

    @property
    def hopeless(self) -> bool:
        """Whether a fault is none that may pass."""
        return not all(isinstance(fault, TransientError) for fault in self.faults)

    def cached(self) -> int:
        """Return how many tokens of the prompt the server had cached; 0 where it does not tell."""
        details = self.usage.get("prompt_tokens_details") or {}
        return min(int(details.get("cached_tokens") or 0), self._prompt_tokens)

    def _check_prompt(self, usage: dict[str, Any]) -> None:
        self.usage = usage
        told = usage.get("prompt_tokens")
        if told not in (self._prompt_tokens, self._prompt_tokens * self._request.count):
            raise BackendError(
                f"{self._server} read {told} tokens where {self._prompt_tokens} were sent: something on the way "
                "changes prompts"
            )

    def _take(self, choice: dict[str, Any]) -> tuple[int, Completion | None]:
        index = int(choice["index"])
        if index < 0 or self.children[index].finished:
            raise BackendError(f"{self._server}: a piece of child {index}, which was not awaited")
        child, ids = self.children[index], choice.get("token_ids")
        if ids is None:
            raise BackendError(
                f"{self._server} ignores return_token_ids: it is no vLLM of 0.20 or newer, or something before it "
                "drops fields; use the generator openai:URL for other servers"
            )
        child.text += choice["text"] or ""
        child.token_ids.extend(ids)
        self._take_logprobs(child, choice.get("logprobs"), len(ids))
        if choice["finish_reason"] is None:
            return index, None
        child.finished = True
        where, reason = f"{self._server}, child {index}", choice["finish_reason"]
        try:
            return index, completion_of(where, self._request, child, reason, choice.get("stop_reason"))
        except BackendError as fault:
            self.faults.append(fault)
            return index, None

    def _take_logprobs(self, child: Child, told: dict[str, Any] | None, count: int) -> None:
        if not (self._request.logprobs or self._request.top_logprobs):
            return
        values = (told or {}).get("token_logprobs") or []
        rows = (told or {}).get("top_logprobs") or [] if self._request.top_logprobs else values
        if not len(values) == len(rows) == count:
            raise BackendError(f"{self._server}: {count} tokens, but {min(len(values), len(rows))} log-probabilities")
        child.logprobs.extend(values)
        if self._request.top_logprobs:
            for row in rows:
                child.top_logprobs.extend(self._top(row))

    def _top(self, row: dict[str, float]) -> list[float]:
        # The token that was drawn comes in addition where it is not one of them.
        greatest = sorted(row.values(), reverse=True)[: self._request.top_logprobs]
        if len(greatest) < self._request.top_logprobs:
            raise BackendError(
                f"{self._server} gives {len(greatest)} log-probabilities a token where {self._request.top_logprobs} "
                "were asked for"
            )
        return greatest
