"""A request and its children in vLLM's engine in this process: what is asked of it, and what comes back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tts.backends.vllm_children import NEUTRAL, Child, completion_of, last_token, with_whole_text
from tts.backends.worker import Mailbox
from tts.errors import BackendError, TTSError
from tts.types import Finish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tts.protocols import GenerationRequest, Sink
    from tts.types import Completion


def settings_of(request: GenerationRequest, *, special_tokens: bool = False) -> list[dict[str, Any]]:
    """Return what SamplingParams are made from, for each of vLLM's requests that make up this one.

    Child j is drawn with seed + j: so does vLLM for sample j of a prompt. Drawn without chance, it refuses n > 1, and
    is asked once for each child.
    """
    sampling = request.sampling
    stops = [*request.delimiters, *sampling.stops]
    wanted = request.logprobs or request.top_logprobs
    apart = sampling.temperature == 0
    settings: dict[str, Any] = {
        "n": 1 if apart else request.count, "max_tokens": request.max_tokens, "temperature": sampling.temperature,
        "top_p": sampling.top_p, "top_k": sampling.top_k, **NEUTRAL, "stop": stops,
        "include_stop_str_in_output": bool(stops), "skip_special_tokens": not special_tokens,
        "logprobs": request.top_logprobs if wanted else None,
    }  # fmt: skip
    return [{**settings, "seed": request.seed + first} for first in range(request.count if apart else 1)]


class Asked:
    """A request in the engine.

    Attributes:
        request: What was asked for.
        settings: What it is in vLLM's words.
        prompt: Token ids of the prompt and the path.
        priority: Who goes first: the lower.
        mailbox: What is told on the event loop of whoever waits.
        children: As far as they have come.
        given_up: Whether it is being aborted, so that only what has been sampled is of interest.
    """

    def __init__(
        self,
        name: str,
        request: GenerationRequest,
        prompt: list[int],
        priority: int,
        sink: Sink,
        decode: Callable[[Sequence[int]], str],
        *,
        special_tokens: bool = False,
    ) -> None:
        self.request = request
        self.settings = settings_of(request, special_tokens=special_tokens)
        self.prompt = prompt
        self.priority = priority
        self.mailbox = Mailbox()
        self.children = [Child() for _ in range(request.count)]
        self.given_up = False
        self._name = name
        self._sink = sink
        self._decode = decode
        self._told = [0] * request.count
        self._read = False
        self._failed = False
        self._reporting = False

    @property
    def finished(self) -> bool:
        """Whether every child is finished."""
        return all(child.finished for child in self.children)

    def take(self, first: int, output: Any) -> None:
        """Take one of vLLM's RequestOutputs, whose children are counted from `first`; on the engine's thread."""
        if not self._read:
            self._read = True
            cached = min(output.num_cached_tokens or 0, len(self.prompt))
            self.mailbox.put(partial(self._sink.prompt, cached=cached, computed=len(self.prompt) - cached))
        for piece in output.outputs:
            self._take(first + piece.index, piece)
        if self.request.cancellable and not self._reporting:
            self._reporting = True
            self.mailbox.put(self._report)

    def fail(self, error: TTSError) -> None:
        """Have an error raised where the request is awaited, once; from the engine's thread."""
        if not self._failed:
            self._failed = True
            self.mailbox.put(partial(_throw, error))

    def tell_rest(self) -> None:
        """Tell what was sampled for children that have not been delivered, on the event loop."""
        for index, child in enumerate(self.children):
            if 0 <= self._told[index] < len(child.token_ids):
                self._told[index] = len(child.token_ids)
                self._sink.progress(index, self._told[index])

    def _take(self, index: int, piece: Any) -> None:
        child = self.children[index]
        child.text += piece.text
        child.token_ids.extend(piece.token_ids)
        if self.given_up:
            return
        try:
            self._take_logprobs(child, piece)
            if piece.finish_reason is not None:
                where, reason = f"{self._name}, child {index}", piece.finish_reason
                completion = completion_of(where, self.request, child, reason, piece.stop_reason)
                child.finished = True
                self.mailbox.put(partial(self._deliver, index, completion))
        except TTSError as error:
            self.fail(error)

    def _take_logprobs(self, child: Child, piece: Any) -> None:
        wanted = self.request.top_logprobs
        if not (self.request.logprobs or wanted):
            return
        rows = piece.logprobs or ()
        if len(rows) != len(piece.token_ids):
            raise BackendError(f"{self._name}: {len(piece.token_ids)} tokens, but {len(rows)} log-probabilities")
        for token, row in zip(piece.token_ids, rows, strict=True):
            child.logprobs.append(row[token].logprob)
            if wanted:
                # The token that was drawn comes in addition where it is not one of them.
                child.top_logprobs.extend(sorted((each.logprob for each in row.values()), reverse=True)[:wanted])

    def _report(self) -> None:
        self._reporting = False
        self.tell_rest()

    def _deliver(self, index: int, completion: Completion) -> None:
        self._told[index] = -1
        self._sink.finish(index, self._whole(completion))

    def _whole(self, completion: Completion) -> Completion:
        """Make the text say what the tokens do, but for the end of sequence, which it does not show.

        Asked for texts that end it, the engine cuts what its last token says behind one, and shows an end of sequence
        that the tokenizer does not know for special.
        """
        ids = completion.token_ids or ()
        if completion.finish is Finish.EOS and self.settings[0]["stop"]:
            return replace(completion, text=completion.text.removesuffix(self._decode(ids[-1:])))
        last = last_token(completion)
        if last is None or completion.text.endswith(self._decode([last])):
            return completion
        return with_whole_text(completion, self._decode(ids))


def _throw(error: TTSError) -> None:
    raise error
