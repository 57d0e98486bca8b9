"""What a server's refusal or a broken connection means: the typed error that says what to do."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tts.errors import BackendError, EngineDeadError, ParameterError, TransientError, TTSError

if TYPE_CHECKING:
    import httpx

BUSY = frozenset({408, 425, 429, 502, 503, 504, 529})
"""Statuses of a server that did not begin; it may, later."""
DEAD_ENGINE = ("EngineDeadError", "EngineCore encountered an issue", "Engine loop is not running")
NEVER_CONNECTED = {"ConnectError", "PoolTimeout", "ConnectTimeout"}
"""httpx's own names of faults before a request was sent."""
NEVER_CONNECTED_BENEATH = {
    "ClientConnectorError", "ClientConnectorDNSError", "ClientConnectorCertificateError", "ClientConnectorSSLError",
    "ConnectionTimeoutError", "ClientProxyConnectionError",
}  # fmt: skip
"""aiohttp's, which its transport for httpx calls ConnectTimeout together with connections that the server closed."""


def of_transport(server: str, path: str, error: httpx.HTTPError) -> TransientError:
    """Say whether the request can have reached the engine. Closed connections are opened anew at once."""
    cause = error.__cause__
    beneath = type(cause).__name__ if type(cause).__module__.startswith("aiohttp") else ""
    unsent = beneath in NEVER_CONNECTED_BENEATH if beneath else type(error).__name__ in NEVER_CONNECTED
    what = f"{beneath or type(error).__name__}: {error}".rstrip(": ")
    if unsent:
        return TransientError(f"cannot connect to {server}: {what}; is the server running there?", began=False)
    return TransientError(f"{server}{path}: the connection broke: {what}", at_once=True)


def of_status(
    server: str, path: str, status: int, said: Any, secret: str = "", retry_after: str | None = None
) -> TTSError:
    """Return the error that a status and what was said with it stand for; the key never shows in it."""
    message = _message(said)
    if secret:
        message = message.replace(secret, "***")
    where = f"{server}{path}: status {status}"
    if any(mark in message for mark in DEAD_ENGINE):
        return EngineDeadError(f"{where}: the server runs, but its engine is dead: restart it ({message})")
    if status in BUSY:
        return TransientError(f"{where}: {message}", delay=_seconds(retry_after), began=False)
    if status >= 500:
        return TransientError(f"{where}: {message}")
    if status in (401, 403):
        return BackendError(f"{where}: {message}; set the environment variable that holds the key")
    if status in (400, 413, 422):
        return ParameterError(f"{where}: {message}")
    return BackendError(f"{where}: {message}")


def _message(said: Any) -> str:
    """Find the sentence in the several shapes that servers give to errors."""
    while isinstance(said, dict):
        said = said.get("error") or said.get("message") or said.get("detail") or str(said)
    return " ".join(str(said).split())[:500]


def _seconds(retry_after: str | None) -> float | None:
    """Read Retry-After: seconds, or a date, which is taken as the shortest wait since clocks differ."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return 1.0
