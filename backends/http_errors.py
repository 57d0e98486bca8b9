"""What a server's refusal or a broken connection means: the typed error that says what to do."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tts.errors import BackendError, EngineDeadError, ParameterError, TransientError, TTSError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NOT_BEGUN = frozenset({425, 429, 503, 529})
"""Statuses of a server that turned a request away; it may take it later."""
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


def of_transport(server: str, path: str, error: Exception) -> TransientError:
    """Say whether the request can have reached the engine. Closed connections are opened anew at once."""
    found = error if error.__cause__ is None else error.__cause__
    beneath = found if type(found).__module__.startswith("aiohttp") else error
    kind = type(beneath).__name__
    what = f"{kind}: {error}".rstrip(": ")
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
) -> TTSError:
    """Return the error that a status and what was said with it stand for; none of the secrets shows in it."""
    message, headers = _message(said), headers or {}
    for secret in secrets:
        message = message.replace(secret, "***")
    where = f"{server}{path}: status {status}"
    if any(mark in message for mark in DEAD_ENGINE):
        return EngineDeadError(f"{where}: the server runs, but its engine is dead: restart it ({message})")
    if status in NOT_BEGUN:
        return TransientError(f"{where}: {message}", delay=_seconds(headers), began=False)
    if status in BROKE_OFF or (status >= 500 and status != 501):  # 501: it cannot, and never will
        return TransientError(f"{where}: {message}", delay=_seconds(headers))
    if status in (401, 403):
        return BackendError(f"{where}: {message}; set the environment variable that holds the key")
    if status in (400, 413, 422):
        return ParameterError(f"{where}: {message}")
    if status < 400:
        return BackendError(f"{where}: it sends on to {headers.get('location', 'another place')}: give that URL")
    return BackendError(f"{where}: {message}")


def _message(said: Any) -> str:
    """Find the sentence in the several shapes that servers give to errors."""
    while isinstance(said, dict):
        said = said.get("error") or said.get("message") or said.get("detail") or str(said)
    return " ".join(str(said).split())[:500]


def _seconds(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After: seconds, or a date, which is held against the answer's own, since clocks differ."""
    asked = headers.get("retry-after")
    if asked is None:
        return None
    try:
        seconds = float(asked)
    except ValueError:
        seconds = _until(asked, headers.get("date"))
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(moment: str, now: str | None) -> float:
    try:
        return (parsedate_to_datetime(moment) - parsedate_to_datetime(now or "")).total_seconds()
    except (ValueError, TypeError):  # no dates, or one of them without a zone
        return math.nan
