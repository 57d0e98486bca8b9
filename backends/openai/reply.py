"""One child as an OpenAI-compatible server tells of it, whole or in pieces: its text, its tokens, and why it ended."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from tts.backends.openai.wire import Piece, Route, pieces_of, read, sampled
from tts.errors import BackendError, TransientError
from tts.types import Completion, Finish

if TYPE_CHECKING:
    from tts.protocols import GenerationRequest

GIVEN_UP = frozenset({"abort", "error", "cancelled", "server_error"})
"""Finish reasons of a server that stopped in the middle."""


class Reply:
    """What a server says of one child, checked as it comes.

    Thinking that comes apart from the text is put before it, between the sampling's marks. Where `cut` is set the
    server was given no stop texts; the text is cut here behind the first delimiter or stop.

    Attributes:
        usage: The last piece that said how many tokens were read and sampled.
    """

    def __init__(self, server: str, route: Route, request: GenerationRequest, *, cut: bool) -> None:
        self.usage: Any = None
        self._server = server
        self._route = route
        self._request = request
        self._marks = (*request.delimiters, *request.sampling.stops) if cut else ()
        self._text = ""
        self._thinking = False
        self._pieces = 0
        self._counted = 0
        self._logprobs = array("f")
        self._tops = array("f")
        self._ended: Piece | None = None
        self._met: Finish | None = None

    def take(self, said: Any) -> None:
        """Take in a reply, or a piece of one; what comes after the cut is left out, since how much does is chance.

        Raises:
            BackendError: It is not what was asked for.
        """
        if self.cut_off:
            return
        for piece in pieces_of(self._server, said):
            says = bool(piece.text or piece.thinking or piece.logprobs)
            if piece.index or (says and self._ended is not None):
                raise BackendError(f"{self._server}: a piece of choice {piece.index}, which was not awaited")
            self._add(piece)
        if sampled(said) is not None:
            self.usage = said
        if self._marks:
            self._look_for_marks()

    @property
    def cut_off(self) -> bool:
        """Whether the text was cut here, so that nothing more is wanted of the server."""
        return self._met is not None

    def tokens(self) -> int:
        """Return how many tokens have been seen: as the server counts, else its log-probabilities, else the pieces."""
        told = sampled(self.usage)
        return (self._counted or self._pieces) if told is None else told

    def read(self) -> tuple[int, int] | None:
        """Return how many tokens of the prompt were cached and computed; None if it has not been said."""
        return read(self.usage)

    def begun(self) -> bool:
        """Whether anything has come."""
        return self._pieces > 0 or self.usage is not None

    def completion(self) -> Completion:
        """Return the child.

        Raises:
            TransientError: The server gave it up.
            BackendError: It broke off, or it is not what was asked for.
        """
        if self._met is not None:
            self._check_cap(self.tokens())
            return self._completion(self._met, self.tokens(), unobserved=True)
        if self._ended is None or self._ended.finish is None:
            raise BackendError(f"{self._server} answered without saying why it ended")
        told = sampled(self.usage)
        if told is None:
            raise BackendError(
                f"{self._server} did not say how many tokens it sampled, as it had done when asked first"
            )
        finish = self._finish(self._ended, told)
        # Some do not count the end of the sequence; it was sampled all the same.
        return self._completion(finish, max(1, told) if finish is Finish.EOS else told)

    def _add(self, piece: Piece) -> None:
        marks, request = self._request.sampling, self._request
        if piece.thinking:
            if self._route.continues and (request.text or request.delimiters):
                raise BackendError(
                    f"{self._server} splits off thinking, which it did not when it was asked what it can do: steps "
                    "cannot be put together again; start it without its reasoning parser"
                )
            self._text += ("" if self._thinking else marks.thinking_open) + piece.thinking
            self._thinking = True
        if piece.text:
            self._text += (marks.thinking_close if self._thinking else "") + piece.text
            self._thinking = False
        self._pieces += bool(piece.text or piece.thinking)
        self._counted += len(piece.logprobs or ())
        self._add_logprobs(piece)
        if piece.finish is not None:
            self._ended = piece

    def _add_logprobs(self, piece: Piece) -> None:
        if not (self._request.logprobs or self._request.top_logprobs):
            return
        self._logprobs.extend(piece.logprobs or ())
        wanted = self._request.top_logprobs
        for row in piece.top_logprobs if wanted else ():
            if len(row) < wanted:
                raise BackendError(f"{self._server}: {len(row)} of the {wanted} most likely tokens")
            self._tops.extend(row[:wanted])

    def _look_for_marks(self) -> None:
        stops = self._request.sampling.stops
        found = [
            (self._text.find(mark) + len(mark), mark not in stops, mark) for mark in self._marks if mark in self._text
        ]
        if found:
            end, _, mark = min(found)
            self._text = self._text[:end]
            self._met = Finish.STOP if mark in stops else Finish.DELIMITER

    def _finish(self, ended: Piece, tokens: int) -> Finish:
        self._check_cap(tokens)
        cap = self._request.max_tokens
        if ended.finish == "length":
            if tokens != cap:
                raise BackendError(
                    f"{self._server}: cut off at {tokens} tokens where {cap} were allowed: the context is full, or "
                    "something lowers the cap; set max_tokens lower"
                )
            return Finish.LENGTH
        if ended.finish in GIVEN_UP:
            raise TransientError(f"{self._server} gave it up ({ended.finish})")
        if ended.finish != "stop":
            raise BackendError(f"{self._server} ended with {ended.finish!r}, which is neither an end nor a cap")
        if not self._text and tokens > 1 and ended.choice.get("message", {}).get("content", "") is None:
            raise BackendError(f"{self._server} sampled {tokens} tokens and shows none: {str(ended.choice)[:200]}")
        return self._stopped_by(ended)

    def _check_cap(self, tokens: int) -> None:
        if tokens > self._request.max_tokens:
            raise BackendError(
                f"{self._server} sampled {tokens} tokens where {self._request.max_tokens} were allowed: it ignores caps"
            )

    def _stopped_by(self, ended: Piece) -> Finish:
        request = self._request
        met = ended.choice.get(self._route.stop_field) if self._route.stop_field else None
        if self._marks or met not in (*request.delimiters, *request.sampling.stops):
            return Finish.EOS
        if not self._route.stop_kept:
            self._text += met
        elif not self._text.endswith(met):
            raise BackendError(f"{self._server}: ended by {met!r}, which its text lacks: {self._text[-80:]!r}")
        return Finish.STOP if met in request.sampling.stops else Finish.DELIMITER

    def _completion(self, finish: Finish, tokens: int, *, unobserved: bool = False) -> Completion:
        wants = self._request
        if (wants.logprobs or wants.top_logprobs) and len(self._logprobs) != tokens:
            raise BackendError(f"{self._server}: {tokens} tokens, but {len(self._logprobs)} log-probabilities")
        return Completion(
            self._text,
            finish,
            tokens,
            None,
            self._logprobs if wants.logprobs else None,
            self._tops if wants.top_logprobs else None,
            wants.max_tokens - tokens if unobserved else 0,
        )
