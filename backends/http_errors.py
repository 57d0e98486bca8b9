"""What a server's refusal or a broken connection means: the typed error that says what to do."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tts.errors import BackendError, EngineDeadError, ParameterError, TransientError, TTSError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NOT_BEGUN = frozenset({425, 429, 529})
"""Statuses of a server that turned a request away; it may take it later. See `_turned_away` for 503."""
LONGEST_DELAY = 120.0
"""Seconds that a server is left alone at most, whatever it asks for."""
BROKE_OFF = frozenset({408, 502, 504})
"""Statuses of what stands before an engine, which may have begun."""
DEAD_ENGINE = ("EngineDeadError", "EngineCore encountered an issue", "Engine loop is not running")
NEVER_CONNECTED = {"ConnectError", "PoolTimeout", "ConnectTimeout", "ProxyError", "UnsupportedProtocol"}
"""httpx's own names of faults before a request was sent."""
NEVER_CONNECTED_BENEATH = {
    "ClientConnectorError", "ClientConnectorDNSError", "ClientConnectorCertificateError", "ClientConnectorSSLError",
    "ConnectionTimeoutError", "ClientProxyConnectionError", "ClientHttpProxyError",
}  # fmt: skip
"""aiohttp's, which its transport for httpx calls ConnectTimeout together with connections that the server closed."""
NEVER_SENT = {"ClientConnectionResetError"}
"""aiohttp's name of a connection that was found closed before anything was written."""


def of_transport(server: str, path: str, error: Exception, secrets: Iterable[str] = ()) -> TransientError:
    """Say whether the request can have reached the engine; none of the secrets shows.

    Closed connections are opened anew at once.
    """
    found = error if error.__cause__ is None else error.__cause__
    beneath = found if type(found).__module__.startswith("aiohttp") else error
    kind = type(beneath).__name__
    what = without(secrets, f"{kind}: {error}".rstrip(": "))
    if kind in (NEVER_CONNECTED if beneath is error else NEVER_CONNECTED_BENEATH):
        return TransientError(f"cannot connect to {server}: {what}; is the server running there?", began=False)
    return TransientError(f"{server}{path}: the connection broke: {what}", at_once=True, began=kind not in NEVER_SENT)


def of_status(
    server: str,
    path: str,
    status: int,
    said: Any,
    headers: Mapping[str, str] | None = None,
    secrets: Iterable[str] = (),
    key: str = "the variable that `key` names",
) -> TTSError:
    """Return the error that a status and what was said with it stand for; none of the secrets shows in it."""
    message, headers = without(secrets, _message(said)), headers or {}
    where = f"{server}{path}: status {status}"
    if status >= 500 and any(mark in message for mark in DEAD_ENGINE):  # others may quote the question
        return EngineDeadError(f"{where}: the server runs, but its engine is dead: restart it ({message})")
    if status in NOT_BEGUN or (status == 503 and _turned_away(said)):
        return TransientError(f"{where}: {message}", delay=_seconds(headers), began=False)
    if status in BROKE_OFF or (status >= 500 and status != 501):  # 501: it cannot, and never will
        return TransientError(f"{where}: {message}", delay=_seconds(headers))
    if status in (401, 403):
        return BackendError(f"{where}: {message}; the key comes from the environment, from {key}")
    if status in (400, 413, 422):
        return ParameterError(f"{where}: {message}")
    if status < 400:
        return BackendError(f"{where}: it sends on to {headers.get('location', 'another place')}: give that URL")
    return BackendError(f"{where}: {message}")


def of_event(server: str, path: str, event: Mapping[str, Any], *, begun: bool, secrets: Iterable[str] = ()) -> TTSError:
    """Return the error that an event of a stream stands for; its status was sent before it was known.

    Args:
        server: Host and port.
        path: What was asked.
        event: The event, with an `error`.
        begun: Other events came before it.
        secrets: What must not show.
    """
    said = event["error"]
    code = said.get("code") if isinstance(said, dict) else None
    status = code if type(code) is int and 400 <= code <= 599 else 500
    error = of_status(server, path, status, event, secrets=secrets)
    if begun and isinstance(error, TransientError):
        error.began = True
    return error


def without(secrets: Iterable[str], text: str) -> str:
    """Return a text in which none of the secrets shows."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _turned_away(said: Any) -> bool:
    """Whether it is an engine's server that said so; a gateway says 503 also when it has lost what it passed on."""
    error = said.get("error") if isinstance(said, dict) else None
    return isinstance(error, dict) and "message" in error and "code" in error


def _message(said: Any) -> str:
    """Find the sentence in the several shapes that servers give to errors."""
    while isinstance(said, dict):
        said = said.get("error") or said.get("message") or said.get("detail") or str(said)
    return " ".join(str(said).split())[:500]


def _seconds(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After: seconds, or a date, which is held against the answer's own, since clocks differ.

    At most `LONGEST_DELAY`; None for what is no time to come.
    """
    asked = headers.get("retry-after")
    if asked is None:
        return None
    try:
        seconds = float(asked)
    except ValueError:
        seconds = _until(asked, headers.get("date"))
    return min(seconds, LONGEST_DELAY) if 0 <= seconds < math.inf else None


def _until(moment: str, now: str | None) -> float:
    try:
        return (parsedate_to_datetime(moment) - parsedate_to_datetime(now or "")).total_seconds()
    except (ValueError, TypeError):  # no dates, or one of them without a zone
        return math.nan
