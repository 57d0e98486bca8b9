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
    try:
        parts = urlsplit(url)
        # A password with a slash that is not written as %2F would be taken for a part of the path.
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        is_one = is_one and "@" not in "".join(parts[2:])
    except ValueError:
        is_one = False
    if not is_one:
        shown = url.rpartition("@")[2]
        raise ParameterError(f"{shown!r} is no URL of a server: expected one such as http://localhost:8000")
    login, _, place = parts.netloc.rpartition("@")
    bare = urlunsplit(parts._replace(netloc=place))
    return bare.rstrip("/").removesuffix("/v1").rstrip("/"), unquote(login)


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what cannot be sent; what fails later would show the value.

    Raises:
        ParameterError: Names the header, and not what it holds.
    """
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ParameterError(
                f"the header {name!r} holds a control character, or one that is not ASCII: look at where it comes from"
                " (the environment variable with the key, or headers=)"
            )


def secrets_in(headers: Mapping[str, str], login: str) -> tuple[str, ...]:
    """Return what no error may show."""
    shown = [value.split()[-1] for name, value in headers.items() if name in SECRET and value.strip()]
    return tuple(secret for secret in (*shown, login, login.partition(":")[2]) if secret)
