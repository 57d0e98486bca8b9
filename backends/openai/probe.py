"""What an OpenAI-compatible server can do, found by asking it; nothing is inferred from its URL or its name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tts.backends.openai.asking import OPEN, SHORT, Asking, is_final
from tts.backends.openai.wire import CHAT, COMPLETIONS, Dialect, Piece, Route, pieces_of, read, reasoning_of, sampled
from tts.backends.served import Served, ask_served
from tts.errors import BackendError, TTSError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tts.backends.http import Endpoint

LONG = 24
"""Tokens of an answer that is continued and stopped."""
LAST = 96
"""Tokens within which an answer should end by itself."""
DRAWN = 12
"""Tokens of a draw by chance."""
FEW = 8
SEED = 0x1F3A_9C5D_7B21_E000
"""As large as those of a search."""
SEED_BITS = (63, 31)
TOPS = (20, 5, 1)
DIALECTS: Mapping[str, tuple[Dialect, ...]] = {
    COMPLETIONS: ("text",),
    CHAT: ("continue_final_message", "prefix", "plain"),
}
PENALTIES = {"presence_penalty": 0.0, "frequency_penalty": 0.0}
WIDER = {**PENALTIES, "repetition_penalty": 1.0, "min_p": 0.0}
NEUTRAL: Sequence[Mapping[str, float]] = ({**WIDER, "top_k": 0}, {**WIDER, "top_k": -1}, WIDER, PENALTIES)
"""Not known everywhere; where they are left out, servers may take what comes with the model."""
OPTIONS: Sequence[Mapping[str, bool]] = (
    {"include_usage": True, "continuous_usage_stats": True},
    {"include_usage": True},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a server can do, as far as it has shown.

    Attributes:
        model: The model's name in requests.
        root: Where the server has it from; its name if it does not say.
        context: Prompt and answer together, in tokens; None if the server does not say.
        text: What `/v1/completions` can do; None if there is no such endpoint.
        chat: What `/v1/chat/completions` can do; None if there is no such endpoint.
        engine: What the server calls itself in its replies; None if it does not.
        absent: Endpoints that are not there, and how that showed.
        requests: How many requests were sent to find out.
        sampled_tokens: How many tokens were sampled for that; an upper bound where the server does not count.
    """

    model: str
    root: str
    context: int | None = None
    text: Route | None = None
    chat: Route | None = None
    engine: str | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
    requests: int = 0
    sampled_tokens: int = 0

    def route(self, path: str) -> Route:
        """Return what an endpoint can do.

        Raises:
            BackendError: It is not there, or has not been asked.
        """
        found = self.text if path == COMPLETIONS else self.chat
        if found is None:
            raise BackendError(f"{path} does not work: {self.absent.get(path, 'it has not been asked')}")
        return found


def render_plainly(text: str) -> str:
    """Put a question as a text that a model may go on from, where no template is known."""
    return text + "\n"


async def probe(
    endpoint: Endpoint,
    model: str | None = None,
    *,
    paths: Sequence[str] = (COMPLETIONS, CHAT),
    render: Callable[[str], str] = render_plainly,
    question: str | None = None,
) -> Abilities:
    """Ask a server what it can do, by a dozen or two small requests and about 300 tokens an endpoint.

    An ability whose probe fails is absent, with the reason in `Route.lacks`.

    Args:
        endpoint: The server.
        model: The served model's name; None if it serves one only.
        paths: Which endpoints to ask.
        render: Makes of a question what the model reads, for `/v1/completions`.
        question: What to ask a model that knows little else. It should have an answer of a few sentences.

    Raises:
        BackendError: It refuses the key, serves no such model, or serves several and none was named.
        TransientError: It does not answer, or has no time.
        EngineDeadError: It runs, its engine does not.
    """
    served = await _served(endpoint, model)
    routes: dict[str, Route] = {}
    absent: dict[str, str] = {}
    asked = [Asking(endpoint, served.model, path, render, question) for path in paths]
    for asking in asked:
        try:
            routes[asking.route.path] = await _everything(asking)
        except TTSError as error:
            if is_final(error):
                raise
            absent[asking.route.path] = str(error)
    return Abilities(
        model=served.model, root=served.root, context=served.context, text=routes.get(COMPLETIONS),
        chat=routes.get(CHAT), engine=next((one.engine for one in asked if one.engine), None), absent=absent,
        requests=sum(one.requests for one in asked), sampled_tokens=sum(one.tokens for one in asked),
    )  # fmt: skip


async def _served(endpoint: Endpoint, model: str | None) -> Served:
    try:
        return await ask_served(endpoint, model)
    except BackendError as error:
        # Some servers do not list their models.
        if model is None or " status 404" not in str(error):
            raise
        return Served(model, model, None)


async def _everything(asking: Asking) -> Route:
    await _first(asking)
    await asking.learn("neutral", _neutral)
    await asking.learn("streams", _streams)
    await asking.learn("continues", _continues)
    await asking.learn("logprobs", _logprobs)
    await asking.learn("stop_field", _stops)
    await asking.learn("seed_bits", _seeds)
    await asking.learn("several", _several)
    return replace(asking.route, lacks=asking.lacks)


async def _first(asking: Asking) -> None:
    wish = asking.wish(LONG)
    try:
        said = await asking.said(wish)
    except TTSError as error:
        if "max_completion_tokens" not in str(error):
            raise
        asking.may(limit="max_completion_tokens")
        said = await asking.said(wish)
    piece, count = asking.only(said), sampled(said)
    asking.long = piece.text or piece.thinking
    asking.engine = said.get("system_fingerprint")
    details = (said.get("usage") or {}).get("prompt_tokens_details") or {}
    asking.may(
        counts=bool(count), limited=count is not None and count <= LONG, reasoning=reasoning_of(piece.choice),
        tells_cached=details.get("cached_tokens") is not None,
    )  # fmt: skip
    if not count:
        asking.lacks["counts"] = "no usage.completion_tokens in its reply"
    if count and count > LONG:
        asking.lacks["limited"] = f"{count} tokens where {LONG} were allowed"


async def _neutral(asking: Asking) -> str:
    async def look(fields: Mapping[str, float]) -> str:
        await asking.said(asking.wish(1), replace(asking.route, neutral=fields))
        return ""

    taken, why = await asking.first_of(NEUTRAL, look)
    asking.may(neutral=taken[0] if taken else {})
    return why


async def _streams(asking: Asking) -> str:
    async def look(options: Mapping[str, bool]) -> str:
        events = await asking.streamed(asking.wish(FEW, stream=True), replace(asking.route, options=options))
        pieces = [piece for event in events for piece in pieces_of(asking.endpoint.name, event)]
        if all(sampled(event) is None for event in events):
            return "the stream does not say how many tokens were sampled"
        if not any(piece.finish for piece in pieces):
            return "the stream does not say why it ended"
        counts = [sampled(event) for event in events if any(map(_speaks, pieces_of(asking.endpoint.name, event)))]
        asking.may(streams=True, counts_along=None not in counts and len(set(counts)) > 1, options=options)
        return ""

    return (await asking.first_of(OPTIONS, look))[1]


async def _continues(asking: Asking) -> str:
    if asking.route.reasoning:
        return (
            f"thinking is split off into {asking.route.reasoning}, so that what the model said cannot be put together "
            "exactly; start the server without its reasoning parser"
        )
    cut = _middle(asking.long)
    begun, rest = asking.long[:cut], asking.long[cut:]
    if not begun or asking.long.startswith(rest):
        return f"it answered {asking.long!r}, of which the second half cannot be told from the first: give a question="

    async def look(dialect: Dialect) -> str:
        why = await _goes_on(asking, replace(asking.route, continues=dialect), begun, rest)
        return f"{dialect}: {why}" if why else ""

    understood, why = await asking.first_of(DIALECTS[asking.route.path], look)
    asking.may(continues=understood[0] if understood else None)
    return why


async def _goes_on(asking: Asking, route: Route, begun: str, rest: str) -> str:
    piece = await asking.piece(asking.wish(LONG, begun=begun), route)
    if piece.thinking or piece.text[: len(rest)] != rest:
        return f"{begun!r} was continued by {(piece.thinking or piece.text)[:60]!r}, not by {rest[:60]!r}"
    plain, spaced = [
        sum(read(await asking.said(asking.wish(1, begun=text), route)) or ()) for text in (begun, begun + "\n\n")
    ]
    # Templates may trim turns; a path that ends a step ends in a blank line.
    return "a blank line at the end of what was begun is dropped" if plain == spaced != 0 else ""


async def _logprobs(asking: Asking) -> str:
    async def look(top: int) -> str:
        return _amiss(asking, await asking.said(asking.wish(FEW, logprobs=True, top_logprobs=top)), top)

    given, why = await asking.first_of(TOPS, look)
    asking.may(logprobs=bool(given), top_logprobs=sum(given))
    return why


def _amiss(asking: Asking, said: Any, top: int) -> str:
    piece, count = asking.only(said), sampled(said)
    if piece.logprobs is None:
        return "none were given"
    if count is not None and len(piece.logprobs) != count:
        return f"{len(piece.logprobs)} for {count} tokens"
    if any(value > 1e-6 for value in piece.logprobs):
        return f"a log-probability of {max(piece.logprobs)}"
    if top and (len(piece.top_logprobs) != len(piece.logprobs) or any(len(row) < top for row in piece.top_logprobs)):
        return f"not {top} of the most likely tokens for each"
    return ""


async def _stops(asking: Asking) -> str:
    stop = _word(asking.long)
    if not stop:
        return f"it answered {asking.long!r}, which cannot be stopped in the middle: give a question="
    met = await asking.piece(asking.wish(LONG, stops=(stop,)))
    text = met.text or met.thinking
    if met.finish == "length" or (stop in text and not text.endswith(stop)):
        return f"stop texts are ignored: {stop!r} was to end {text!r}"
    asking.may(stop_kept=text.endswith(stop))
    said = await asking.said(asking.wish(LAST, SHORT, logprobs=asking.route.logprobs))
    ended = asking.only(said)
    asking.may(reasoning=asking.route.reasoning or reasoning_of(ended.choice))
    if asking.route.logprobs and (why := _amiss(asking, said, 0)):
        asking.lacks["logprobs"] = why
        asking.may(logprobs=False, top_logprobs=0)
    if ended.finish == "length":
        return f"no answer ended within {LAST} tokens, to be compared with one that was stopped"
    return _told_apart(asking, stop, met, ended)


def _told_apart(asking: Asking, stop: str, met: Piece, ended: Piece) -> str:
    fields = [name for name, value in met.choice.items() if value == stop and ended.choice.get(name) != stop]
    if not fields:
        return "a stop text that was met looks like the end of a sequence"
    asking.may(stop_field=fields[0])
    return ""


async def _seeds(asking: Asking) -> str:
    async def look(bits: int) -> str:
        texts = []
        for seed in (SEED, SEED, SEED + 1, SEED + 2):
            route = replace(asking.route, seed_bits=bits)
            piece = await asking.piece(asking.wish(DRAWN, OPEN, temperature=1.0, seed=seed), route)
            texts.append(piece.thinking + piece.text)
        if texts[0] != texts[1]:
            return f"the same seed gave {texts[0]!r} and {texts[1]!r}"
        return f"three seeds gave the same {texts[0]!r}" if len(set(texts)) == 1 else ""

    taken, why = await asking.first_of(SEED_BITS, look)
    asking.may(seed_bits=sum(taken))
    return why


async def _several(asking: Asking) -> str:
    said = await asking.said(asking.wish(1, temperature=1.0, count=2))
    count = len(pieces_of(asking.endpoint.name, said))
    asking.may(several=count == 2)
    return "" if count == 2 else f"{count} choices where 2 were asked for"


def _speaks(piece: Piece) -> bool:
    return bool(piece.text or piece.thinking)


def _middle(text: str) -> int:
    """Return where to cut a text in two: before a space, where tokens begin."""
    half = len(text) // 2
    space = text.find(" ", half)
    return space if 0 < space < len(text.rstrip()) - 1 else half


def _word(text: str) -> str:
    """Return a word from the middle of a text."""
    words = re.findall(r"\S+", text)
    return words[len(words) // 2] if len(words) > 2 else ""
