"""What the supervisor makes of what it hears, in whichever order it comes."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations

import pytest

if sys.platform == "linux":
    from tts.sandbox import supervisor

    SAID = {"answers": b"stoken", "out": b"o" * 60, "errors": b"e" * 60}

    @pytest.mark.parametrize("order", list(permutations(SAID)), ids=" ".join)
    def test_output_beyond_the_limit_is_told_whether_it_is_read_before_the_token_or_after(order: tuple[str]) -> None:
        with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as keeper:
            watch = watching(keeper.pid)
            for name in order:
                watch._hear(name, SAID[name])
        assert watch._report()["reason"] == "output"

    def watching(keeper: int) -> supervisor._Watch:
        watch = object.__new__(supervisor._Watch)
        watch._orders, watch._program = {"output": 100, "seconds": 60.0, "grace": 60.0}, {"token": "token"}
        watch._heard = {name: bytearray() for name in ("answers", "out", "errors", "status")}
        watch._stopped, watch._started, watch._deadline, watch._keeper = "", False, float("inf"), keeper
        return watch
