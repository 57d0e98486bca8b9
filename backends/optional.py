"""Imports of packages that come with an extra; the only place where their absence is noticed."""

from __future__ import annotations

import importlib
from typing import Any

from tts.errors import MissingExtraError


def need(module: str, extra: str = "embedded") -> Any:
    """Import a module of a package that an extra brings.

    The packages have no types of their own, or none that are whole, so this is where `Any` comes in.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], extra) from error
