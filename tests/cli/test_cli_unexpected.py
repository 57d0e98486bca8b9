"""What nobody foresaw ends in one line too, and in a traceback for those who ask for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tts.cli import listing

if TYPE_CHECKING:
    import argparse

    from tests.cli.conftest import Tts


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Break `tts list` for a test."""

    def fail(args: argparse.Namespace) -> int:
        raise ExceptionGroup("several", [ZeroDivisionError("no\x1b[31m\nway")])

    monkeypatch.delenv("TTS_DEBUG", raising=False)
    monkeypatch.setattr(listing, "run", fail)
    return monkeypatch


def test_it_is_one_line(tts: Tts, broken: pytest.MonkeyPatch) -> None:
    ran = tts("list")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "tts: error: unexpected ZeroDivisionError: no way (set TTS_DEBUG=1 for a traceback)\n"


def test_a_traceback_is_shown_where_it_is_asked_for(tts: Tts, broken: pytest.MonkeyPatch) -> None:
    broken.setenv("TTS_DEBUG", "1")
    ran = tts("list")
    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" in ran.err and "in fail" in ran.err and "\x1b" not in ran.err
    assert ran.err.endswith("\ntts: error: unexpected ZeroDivisionError: no way\n")
