"""Where a server is, told apart from what nobody may see."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from tts.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})
"""Headers whose values no error may show."""


def bare_url(url: str) -> tuple[str, str]:
    """Return a server's URL without user and password, and these.

    Raises:
        ParameterError: It is none.
    """
    parts = urlsplit(url)
    login, _, place = parts.netloc.rpartition("@")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        shown = urlunsplit(parts._replace(netloc=place))
        raise ParameterError(f"{shown!r} is no URL of a server: expected one such as http://localhost:8000")
    bare = urlunsplit(parts._replace(netloc=place))
    return bare.rstrip("/").removesuffix("/v1").rstrip("/"), unquote(login)


def secrets_in(headers: Mapping[str, str], login: str) -> tuple[str, ...]:
    """Return what no error may show."""
    shown = [value.split()[-1] for name, value in headers.items() if name in SECRET and value.strip()]
    return tuple(secret for secret in (*shown, login, login.partition(":")[2]) if secret)
