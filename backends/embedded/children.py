"""A request and its children, as the engine sees them."""

from __future__ import annotations

from array import array
from functools import partial
from typing import TYPE_CHECKING

from tts.backends.embedded.sampling import Draw, uniforms
from tts.backends.language import Transcript
from tts.backends.worker import Mailbox
from tts.types import Completion, Finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.backends.embedded.arrays import Floats
    from tts.backends.language import Language
    from tts.protocols import GenerationRequest, Sink


class Asked:
    """A request in the engine.

    Attributes:
        prefix: Token ids of the prompt and the path.
        children: Those that have begun.
        states: Keys and values of the prefix, once it has been read; the children begin from a copy.
        logits: What the network says after the prefix.
    """

    def __init__(self, request: GenerationRequest, prefix: Sequence[int], language: Language, sink: Sink) -> None:
        self.request = request
        self.prefix = prefix
        self.language = language
        self.sink = sink
        self.mailbox = Mailbox()
        self.children: list[Child] = []
        self.states: Floats | None = None
        self.logits: Floats | None = None
        self._unfinished = request.count
        self._reporting = False

    @property
    def waiting(self) -> int:
        """Children that have not begun."""
        return self.request.count - len(self.children)

    @property
    def finished(self) -> bool:
        """Whether every child is finished."""
        return not self._unfinished

    def begin(self, count: int) -> list[Child]:
        """Begin the next children."""
        first = len(self.children)
        begun = [Child(self, index) for index in range(first, first + count)]
        self.children += begun
        return begun

    def read(self, cached: int) -> None:
        """Tell that the prefix has been read, so much of it from the cache."""
        computed = len(self.prefix) - cached
        self.mailbox.put(lambda: self.sink.prompt(cached=cached, computed=computed))

    def finish(self, child: Child) -> None:
        """Deliver a child."""
        self._unfinished -= 1
        self.mailbox.put(partial(self._deliver, child, child.completion()))

    def report(self) -> None:
        """Tell progress, if it is worth telling; reports that the event loop has not come to are not piled up."""
        if self.request.cancellable and not self._reporting:
            self._reporting = True
            self.mailbox.put(self._report)

    def tell_rest(self) -> None:
        """Tell what was sampled for children that will not be delivered, on the event loop."""
        for child in self.children:
            if not child.delivered and len(child.tokens) > child.told:
                child.told = len(child.tokens)
                self.sink.progress(child.index, child.told)

    def _report(self) -> None:
        self._reporting = False
        self.tell_rest()

    def _deliver(self, child: Child, completion: Completion) -> None:
        child.delivered = True
        self.sink.finish(child.index, completion)


class Child:
    """One continuation of a request's prefix.

    Attributes:
        tokens: What was sampled.
        finish: Why it ended; None while it has not.
        told: Tokens that the sink knows of.
        delivered: Whether the sink has it.
    """

    def __init__(self, asked: Asked, index: int) -> None:
        request = asked.request
        self.asked = asked
        self.index = index
        self.tokens = array("i")
        self.logprobs = array("f")
        self.finish: Finish | None = None
        self.told = 0
        self.delivered = False
        self._transcript = Transcript(asked.language, asked.prefix)
        self._uniforms = uniforms(request.seed + index, request.max_tokens).tolist()
        self._longest = max(map(len, (*request.delimiters, *request.sampling.stops)), default=0)

    @property
    def position(self) -> int:
        """The place of the last token, whose keys and values are not known yet."""
        return len(self.asked.prefix) + len(self.tokens) - 1

    @property
    def draw(self) -> Draw:
        """How its next token is drawn."""
        sampling = self.asked.request.sampling
        return Draw(sampling.temperature, sampling.top_k, sampling.top_p, self._uniforms[len(self.tokens)])

    def add(self, token: int, end_tokens: Sequence[int]) -> None:
        """Take the token that was drawn."""
        self.tokens.append(token)
        if token in end_tokens:
            self.finish = Finish.EOS
            return
        before = len(self._transcript.text)
        self._transcript.add(token)
        self.finish = self._match(max(0, before + 1 - self._longest))
        if self.finish is None and len(self.tokens) == self.asked.request.max_tokens:
            self.finish = Finish.LENGTH

    def completion(self) -> Completion:
        """Return it as it is delivered."""
        self._transcript.close()
        logprobs = self.logprobs if self.asked.request.logprobs else None
        assert self.finish is not None
        return Completion(self._transcript.text, self.finish, len(self.tokens), self.tokens, logprobs)

    def _match(self, begin: int) -> Finish | None:
        """A text that ends the path counts before one that ends the step, if a token completes both."""
        if not self._longest:
            return None
        request, text = self.asked.request, self._transcript.text
        if any(text.find(stop, begin) >= 0 for stop in request.sampling.stops):
            return Finish.STOP
        if any(text.find(delimiter, begin) >= 0 for delimiter in request.delimiters):
            return Finish.DELIMITER
        return None
