"""The argument parser: strict about names, and its errors are the library's own, so that all end in one line."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, NoReturn

from tts.errors import UsageError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError, and takes no abbreviations."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(*args, **options)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        # argparse takes a word such as -1s for another option, and then says that a value is missing.
        lacking = re.fullmatch(r"argument (?:-\w/)?(--[\w-]+): expected one argument", message)
        if lacking:
            message += f"; write {lacking[1]}=VALUE where the value begins with -"
        raise UsageError(f"{message} (see {self.prog} --help)")
