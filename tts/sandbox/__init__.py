"""Runs Python programs that nobody has read, so that they can harm nothing and take no more than they are given.

Linux only, on x86_64 and aarch64. A program gets namespaces of its own (processes, network, mounts, System V objects;
a user namespace where we are not root), an empty network, a file system in which there is only what Python needs,
read-only, and a scratch folder in memory; limits (setrlimit); a filter of system calls (seccomp); no privileges; and,
where we are root, a uid that is used for nothing else, since a limit on processes does not bind root. There is no
weaker mode: where one of these is not to be had, `NeedsError` says which. A container usually refuses them; it needs
CAP_SYS_ADMIN, or must allow user namespaces.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio

from tts.errors import NeedsError, ParameterError, VerifierError
from tts.sandbox.system_calls import call_filter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Limits", "Program", "Result", "Sandbox"]

MIB = 2**20
GRACE = 30.0
"""Seconds in which isolation must stand, and in which what was killed must be gone; these are the sandbox's faults."""

_RUNNER = ("runner.py", "exchange.py")
_START = """
import sys, types
module = sys.modules["tts.sandbox.exchange"] = types.ModuleType("tts.sandbox.exchange")
exec(compile(sys.argv.pop(), "exchange.py", "exec"), vars(module))
exec(compile(sys.argv.pop(), "runner.py", "exec"))
"""
"""What is run in the sandbox, where the library is not to be seen: files of this folder, handed over as text."""

SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may take; the processes that it starts included.

    Memory is bounded in address space for each process, so that all together, with the one of the check, have at most
    (`processes` + 1) * `memory`, and the scratch folder's `disk` in addition. Processor time is bounded for each
    process too; for all of them by `seconds` on every core.

    Attributes:
        seconds: Wall-clock time, counted from when the program's interpreter has started.
        cpu: Processor seconds of a process.
        memory: Bytes of address space of a process.
        processes: Processes and threads at a time, its own first one included; the process of the check is one more.
        disk: Bytes in the scratch folder, and in one file.
        files: Files and folders in the scratch folder.
        output: Bytes that it may write to standard output and standard error together; it is stopped beyond that.
    """

    seconds: float = 10.0
    cpu: int = 10
    memory: int = 512 * MIB
    processes: int = 4
    disk: int = 16 * MIB
    files: int = 256
    output: int = 65536

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, (int, float) if name == "seconds" else int) or not 0 < value < 2**62:
                raise ParameterError(
                    f"{name}={value!r}: a limit is above zero and below 2**62; all but seconds are whole"
                )


@dataclass(frozen=True, slots=True)
class Program:
    """Python that is run as a module, `candidate`, and Python that checks it from another process once it has run.

    The check reads the module's names as if they were its own, and calls what they name; arguments and results are
    copies of data (numbers, text, containers, dates, NumPy arrays, errors). Objects of the module's classes, functions
    and generators stay there and are used from here; they are compared and reckoned with among each other, but not
    with data: such an object equals no data, and `<`, `+` or `in` with data is a TypeError or goes over its items.

    Attributes:
        source: Code that is not trusted. It sees neither the check nor what it compares with.
        check: Code that is. It hands over data, functions and iterators, and nothing else.
    """

    source: str
    check: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a program.

    Attributes:
        completed: Both codes were run to their ends, as the process of the check says, where no other code is run.
        reason: "completed", or stopped at the limit of "time" or of "output"; else it "exited" by itself.
        status: Exit status, or minus the signal that killed it; None where the sandbox ended it.
        stdout: What it wrote, as text.
        stderr: What it wrote, as text; a traceback, where it raised.
    """

    completed: bool
    reason: Literal["completed", "time", "output", "exited"]
    status: int | None
    stdout: str
    stderr: str


class Sandbox:
    """Runs programs apart from all else, and from each other.

    A program can read the folders of this Python (`sys.prefix`, with what is installed there), /usr and the libraries;
    not the home folder, /proc, /sys, /etc nor the environment. It can write to the folder in which it starts, which is
    its own and is gone afterwards: /tmp, or /scratch where this Python lies in /tmp. It sees no process but its own,
    none of which outlives the run.

    What it does not stop: bugs in the kernel; use of shared hardware (caches, heat) and of the time given. Memory of
    the kernel for a process (pipes, page tables) is bounded by the numbers of processes and of open files (64) only.
    Where we are not root, programs count under our uid, and what the kernel shares out by uid (pipes, watches) is ours.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        """Say what programs may take; nothing is started before `connect` or `run`.

        Raises:
            ParameterError: A limit is out of range (by `Limits`).
        """
        self.limits = limits or Limits()
        self._proved = False

    async def connect(self) -> None:
        """Find out whether isolation is to be had, by a program that tries to break out; once.

        Raises:
            NeedsError: Something cannot be bounded here; it says what.
        """
        if self._proved:
            return
        (facts,) = await self._launch([Program(_proof(self.limits))])
        if facts["reason"] != "completed":
            last = (facts["errors"].strip().splitlines() or [f"ended by {facts.get('status', facts['reason'])}"])[-1]
            raise NeedsError(f"no sandbox here: {facts.get('failed', last)}. {_remedy()}")
        self._proved = True

    async def run(self, programs: Sequence[Program]) -> list[Result]:
        """Run programs one after another, each in a sandbox of its own. Cancelling kills what runs.

        Raises:
            NeedsError: Isolation is not to be had.
            VerifierError: The sandbox itself failed, or a check hands over what is no data.
        """
        await self.connect()
        return [_result(facts) for facts in await self._launch(programs)] if programs else []

    async def _launch(self, programs: Sequence[Program]) -> list[dict[str, Any]]:
        orders = json.dumps(self._orders(programs)).encode()
        script = Path(__file__).with_name("supervisor.py")
        command = [sys.executable, "-I", "-S", "-B", str(script)]
        try:
            with anyio.fail_after(len(programs) * (self.limits.seconds + 3 * GRACE)):
                done = await anyio.run_process(
                    command, input=orders, check=False, start_new_session=True, env={"LANG": "C.UTF-8"}, cwd="/"
                )
        except (OSError, TimeoutError) as error:
            raise VerifierError(f"the sandbox's supervisor failed: {error!r}") from error
        lines = done.stdout.splitlines()
        if done.returncode or len(lines) != len(programs):
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise VerifierError(f"the sandbox's supervisor ended with {done.returncode}: {(said or ['no word'])[-1]}")
        return [json.loads(line) for line in lines]

    def _orders(self, programs: Sequence[Program]) -> dict[str, object]:
        steps = call_filter(platform.machine()) if sys.platform == "linux" else None
        if steps is None:
            raise NeedsError(f"no sandbox here: {sys.platform} on {platform.machine()}. {_remedy()}")
        readable = _readable()
        return {
            **asdict(self.limits),
            "grace": GRACE,
            "uid": _free_uid() if os.geteuid() == 0 else 0,
            "filter": steps.hex(),
            "readable": readable,
            # What may be read must not lie in it: there the program could put something else in its place.
            "scratch": "/scratch" if any(f"{path}/".startswith("/tmp/") for path in readable) else "/tmp",
            "python": sys.executable,
            "runner": [_START, *(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in _RUNNER)],
            "programs": [{**asdict(program), "token": secrets.token_hex(16)} for program in programs],
        }


def _result(facts: dict[str, Any]) -> Result:
    if not facts["started"] or "failed" in facts:
        why = facts.get("failed") or facts["errors"].strip() or f"{facts['reason']}, status {facts.get('status')}"
        raise VerifierError(f"the sandbox failed before the program began: {why}")
    if "refused" in facts:
        raise VerifierError(f"a check cannot be run: {facts['refused']}; hand over data, functions or iterators")
    reason = facts["reason"]
    status = facts.get("status") if reason == "exited" else None
    return Result(reason == "completed", reason, status, facts["out"], facts["errors"])


def _remedy() -> str:
    return (
        "It takes Linux on x86_64 or aarch64, and root with CAP_SYS_ADMIN and CAP_SETUID or a user who may make user "
        "namespaces (sysctl user.max_user_namespaces; kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu)"
    )


def _readable() -> list[str]:
    """Return what a program may read: this Python and the system's libraries, none inside another.

    Raises:
        NeedsError: The home folder lies in it.
    """
    given = (*SYSTEM, sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    there = {form for path in given if os.path.exists(path) for form in (path, _real(path)) if form}
    found = sorted(path for path in there if not any(path.startswith(other + "/") for other in there))
    home = os.path.realpath(os.path.expanduser("~"))
    for path in found:
        if f"{home}/".startswith(f"{os.path.realpath(path)}/") and home != "/":
            raise NeedsError(f"no sandbox here: the home folder {home} lies in {path}, which Python needs")
    return found


def _real(path: str) -> str:
    """Return where a path leads; nothing for the system's links, which are shown as links."""
    return "" if path in SYSTEM else os.path.realpath(path)


def _free_uid() -> int:
    """Return a uid that runs nothing: a random one of the upper quarter of those that this system can give.

    Raises:
        NeedsError: It can give none but ours, as where root is a user by another name (`unshare --map-root-user`).
    """
    highest = min(max(_mapped_ids()) - 2, 2**31 - 2)
    if highest < 1:
        raise NeedsError(f"no sandbox here: root has no other uid to give in this user namespace. {_remedy()}")
    while True:
        uid = highest - secrets.randbelow(max(1, min(highest // 4, 2**24)))
        if not _runs_something(uid):
            return uid


def _mapped_ids() -> Iterator[int]:
    """Yield the ends of the ranges of uids that there are here: fewer in a container."""
    for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines():
        first, _, count = map(int, line.split())
        yield first + count


def _runs_something(uid: int) -> bool:
    return any(entry.name.isdigit() and _owner(entry) == uid for entry in os.scandir("/proc"))


def _owner(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_uid
    except FileNotFoundError:
        return None


def _proof(limits: Limits) -> str:
    """Return a program that ends well only if what must be refused is refused."""
    return f"""
import mmap, os, signal, socket

def many():
    for _ in range({limits.processes} + 3):
        if not os.fork():
            signal.pause()

def fill():
    with open("full", "wb") as file:
        for _ in range({limits.disk} // 4096 + 2):
            file.write(bytes(4096))

def outside():
    open("/outside", "w")

def installed():
    open(os.path.join({sys.prefix!r}, "outside"), "w")

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for name, attempt in {{
    "the network": socket.socket,
    "writing to the root": outside,
    "writing to the interpreter's folder": installed,
    "memory": lambda: bytearray({limits.memory}),
    "shared memory": lambda: mmap.mmap(-1, 4096),
    "disk": fill,
    "processes": many,
}}.items():
    try:
        attempt()
    except (OSError, MemoryError):
        continue
    raise SystemExit("isolation does not hold for " + name)
if os.getuid() == 0 or os.path.exists("/proc/self") or os.path.exists("/etc/passwd"):
    raise SystemExit("isolation does not hold for what may be read")
"""
