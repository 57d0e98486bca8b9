"""Real vLLM servers, as processes of their own with a log each, and what their counters say."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = Path(__file__).resolve().parents[2] / "backends" / "embedded" / "models"
POLICY = "arithmetic-policy"
PRM = "arithmetic-prm"
NAME = "countdown"
"""Under which every server serves its model."""
BLOCK = 32
"""Tokens of a block of the prefix cache: the least that the CPU build has."""
CONTEXT = 128
PATIENCE = 240.0
"""Seconds until a server must be up; about 25 where nothing else runs."""

# A seeded prompt that is read in chunks kills the CPU build's engine, hence no chunked prefill.
COMMON = (
    "--served-model-name", NAME, "--host", "127.0.0.1", "--max-model-len", str(CONTEXT), "--dtype", "float32",
    "--block-size", str(BLOCK), "--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192",
    "--uvicorn-log-level", "warning",
)  # fmt: skip
GENERATES = ("--enable-prompt-tokens-details", "--scheduling-policy", "priority")
SCORES_THE_END = ("--runner", "pooling", "--pooler-config", '{"task": "classify"}')
SCORES_EVERY_TOKEN = ("--runner", "pooling")
# Bound to cores, as is the default, the engines of all servers would share the first.
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
}  # fmt: skip


class Server:
    """A vLLM server of the embedded model's weights, in a process group of its own.

    Attributes:
        name: What tells it from others.
        url: Where it listens.
    """

    def __init__(self, name: str, model: str, flags: Sequence[str], folder: Path) -> None:
        """Start it; it is up once `wait` returns."""
        self.name = name
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / f"{name}.log"
        command = [
            sys.executable, "-m", "vllm.entrypoints.openai.api_server",
            "--model", str(MODELS / model), "--port", str(port), *COMMON, *flags,
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **ENVIRONMENT}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_end_with_parent,
            )  # fmt: skip
        RUNNING.append(self)

    def wait(self) -> None:
        """Wait until it is up."""
        until = time.monotonic() + PATIENCE
        while not self._is_up():
            if self._process.poll() is not None:
                raise AssertionError(f"server {self.name} ended with {self._process.returncode}\n{self.tail()}")
            if time.monotonic() > until:
                raise AssertionError(f"server {self.name} is not up after {PATIENCE:.0f} s\n{self.tail()}")
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill it and its children, as a machine that fails does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self in RUNNING:
            RUNNING.remove(self)

    def freeze(self) -> None:
        """Let it hang: connections stand, nothing answers."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill_engine(self) -> None:
        """Kill its engine and leave the server."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in map(int, children):
            if "EngineCore" in Path(f"/proc/{child}/cmdline").read_text():
                os.kill(child, signal.SIGKILL)

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


RUNNING: list[Server] = []


class Counters:
    """What a server's metrics said at one moment: the values of all its counters and gauges, by name."""

    def __init__(self, url: str) -> None:
        with urllib.request.urlopen(url + "/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        self._values: dict[str, float] = {}
        for line in lines:
            if line.startswith("vllm:"):
                name, value = line.rsplit(" ", 1)
                name = name.split("{")[0].removeprefix("vllm:")
                self._values[name] = self._values.get(name, 0.0) + float(value)

    def __getitem__(self, name: str) -> int:
        return int(self._values[name])

    @property
    def in_flight(self) -> int:
        """Sequences that run or wait."""
        return self["num_requests_running"] + self["num_requests_waiting"]

    @property
    def generated(self) -> int:
        """Tokens sampled."""
        return self["generation_tokens_total"]

    @property
    def read(self) -> int:
        """Prompt tokens, of every sequence, cached or not."""
        return self["prefix_cache_queries_total"]

    @property
    def cached(self) -> int:
        """Prompt tokens, of every sequence, that the prefix cache held."""
        return self["prefix_cache_hits_total"]


async def settled(server: Server, within: float = 20.0) -> Counters:
    """Return the counters once nothing is in flight and they have come to rest."""
    with anyio.fail_after(within):
        before = Counters(server.url)
        while True:
            await anyio.sleep(0.1)
            now = Counters(server.url)
            if not now.in_flight and (now.generated, now.read) == (before.generated, before.read):
                return now
            before = now


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    """Let the kernel end a server whose tests were killed before they could do so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
