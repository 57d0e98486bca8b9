"""The program that isolates candidate code and watches it; run as a process of its own, without the library.

It reads its orders from standard input as JSON and runs the programs in them one after another. For each it forks a
keeper, which leaves the namespaces of the host and builds a file system of what may be read; the keeper forks the first
process of a new process namespace, whose end is the end of all in it; that one forks the process which becomes the
candidate's. For each it writes one line of JSON. Whoever kills this process kills all of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import selectors
import signal
import struct
import sys
import time
from typing import Any

_LIBRARY = ctypes.CDLL(None, use_errno=True)
_NEW_USER = 0x10000000
_NEW_OTHERS = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
"""Mounts, host name, System V objects, processes, network."""
_NO_SETUID, _NO_DEVICES, _BIND, _DETACH, _PRIVATE = 2, 4, 0x5000, 2, 0x44000
_DEATH_SIGNAL, _NO_NEW_PRIVILEGES, _SECCOMP, _SUBREAPER = 1, 38, 22, 36
_MOUNT_SETATTR, _HERE, _RECURSIVE, _READ_ONLY = 442, -100, 0x8000, 1
_PLACE = "/proc"
"""Where the new root is put together: a folder that is always there, and that nothing to be read lies in."""
_DEVICES = ("/dev/null", "/dev/random", "/dev/urandom")
"""Without /dev/zero: shared memory of it stays whole while one page is mapped, and only that page is counted."""
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
}
"""With hashes that are the same in each run; one thread is what limits on processes leave a library of numbers."""

Orders = dict[str, Any]


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBRARY, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _die_with_parent(alive: int) -> None:
    """Be killed when the parent dies, who alone holds the other end of the pipe `alive`; at once if it has died."""
    _call("prctl", _DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if select.select([alive], [], [], 0)[0]:
        os._exit(1)


def _leave_host() -> None:
    """Leave the host's namespaces; an unprivileged user may do so in a user namespace in which it is nobody else."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _NEW_OTHERS | (_NEW_USER if user else 0))
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind)]
    _call("mount", *texts, ctypes.c_ulong(flags), options.encode())


def _build_root(orders: Orders) -> None:
    """Make a file system of what may be read, read-only, and of a scratch folder of bounded size; and move into it."""
    _mount("none", "/", None, _PRIVATE)
    _mount("none", _PLACE, "tmpfs", _NO_SETUID | _NO_DEVICES, "size=1m,mode=755")
    for path in (*orders["readable"], *_DEVICES):
        _show(path)
    scratch = orders["scratch"]
    os.makedirs(_PLACE + scratch)
    os.symlink(scratch, f"{_PLACE}/dev/shm")
    attributes = struct.pack("QQQQ", _READ_ONLY | _NO_SETUID, 0, 0, 0)
    call = (_MOUNT_SETATTR, _HERE, _PLACE.encode(), _RECURSIVE, attributes, len(attributes))
    _call("syscall", *(ctypes.c_long(part) if isinstance(part, int) else part for part in call))
    size = f"size={orders['disk']},nr_inodes={orders['files'] + 1},mode=777"
    _mount("none", _PLACE + scratch, "tmpfs", _NO_SETUID | _NO_DEVICES, size)
    os.chdir(_PLACE)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir(scratch)


def _show(path: str) -> None:
    target = _PLACE + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.lexists(target):
        return
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
    elif os.path.isdir(path):
        os.mkdir(target)
        _mount(path, target, None, _BIND)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        _mount(path, target, None, _BIND)


def _bind_limits(orders: Orders) -> None:
    """Set the limits, of which a process may lower its own and raise none; then take every privilege away.

    The process of the check counts as well; and an unprivileged user keeps its uid, under which the keeper and the
    first process do too.
    """
    uid = orders["uid"]
    wanted = {
        "CPU": orders["cpu"] + 1,
        "AS": orders["memory"],
        "FSIZE": orders["disk"],
        "NPROC": orders["processes"] + (1 if uid else 3),
        "NOFILE": 64,
        "SIGPENDING": 64,
        **dict.fromkeys(("CORE", "MEMLOCK", "MSGQUEUE"), 0),
    }
    for name, limit in wanted.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        highest = resource.getrlimit(kind)[1]
        limit = limit if highest == resource.RLIM_INFINITY else min(limit, highest)
        resource.setrlimit(kind, (min(limit, orders["cpu"]) if name == "CPU" else limit, limit))
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    steps = bytes.fromhex(orders["filter"])
    buffer = ctypes.create_string_buffer(steps, len(steps))
    program = struct.pack("HxxxxxxQ", len(steps) // 8, ctypes.addressof(buffer))
    _call("prctl", _SECCOMP, 2, ctypes.c_char_p(program), 0, 0)


class _Pipes:
    """The ends of the pipes to one candidate: the supervisor's and the candidate's."""

    def __init__(self) -> None:
        self.orders, self.answers, self.out, self.errors, self.status, self.alive = (os.pipe() for _ in range(6))

    def close_far(self) -> None:
        """Close the candidate's ends."""
        for end in (self.orders[0], self.answers[1], self.out[1], self.errors[1], self.status[1], self.alive[0]):
            os.close(end)

    def close_near(self) -> None:
        """Close the supervisor's ends."""
        for end in (self.orders[1], self.answers[0], self.out[0], self.errors[0], self.status[0]):
            with contextlib.suppress(OSError):
                os.close(end)


def _become_candidate(orders: Orders, pipes: _Pipes) -> None:
    nothing = os.open("/dev/null", os.O_RDONLY)
    ends = (nothing, pipes.out[1], pipes.errors[1], pipes.orders[0], pipes.answers[1], pipes.status[1])
    # Moved out of the way first, so that none is overwritten before it is copied.
    *moved, status = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    pipes.status = (pipes.status[0], status)
    for place, end in enumerate(moved):
        os.dup2(end, place)
    os.setsid()
    # Whoever started us may have had some ignored, as nohup does.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    _bind_limits(orders)
    python = orders["python"]
    environment = {**_ENVIRONMENT, "HOME": orders["scratch"], "TMPDIR": orders["scratch"]}
    os.execve(python, [python, "-s", "-P", "-B", "-u", "-c", *orders["runner"]], environment)


def _keep(orders: Orders, pipes: _Pipes, alive: int) -> None:
    """Isolate, and wait for the end of the first process."""
    _leave_host()
    # Leaving forgets the signal that was asked for.
    _die_with_parent(alive)
    _build_root(orders)
    here, there = os.pipe()
    first = os.fork()
    if first:
        os.close(pipes.status[1])
        os.waitpid(first, 0)
        return
    os.close(there)
    _die_with_parent(here)
    candidate = os.fork()
    if not candidate:
        _become_candidate(orders, pipes)
    for end in (pipes.orders[0], pipes.answers[1], pipes.out[1], pipes.errors[1]):
        os.close(end)
    while True:
        ended, status = os.wait()
        if ended == candidate:
            _say(pipes, {"status": os.waitstatus_to_exitcode(status)})
            return


def _say(pipes: _Pipes, facts: dict[str, object]) -> None:
    os.write(pipes.status[1], json.dumps(facts).encode() + b"\n")


def _fork_keeper(orders: Orders, pipes: _Pipes) -> int:
    keeper = os.fork()
    if keeper:
        pipes.close_far()
        return keeper
    try:
        os.close(pipes.alive[1])
        pipes.close_near()
        _die_with_parent(pipes.alive[0])
        _keep(orders, pipes, pipes.alive[0])
    except (OSError, ValueError) as error:
        _say(pipes, {"failed": str(error)})
    finally:
        os._exit(0)


class _Watch:
    """One candidate, watched until all its processes are dead."""

    def __init__(self, orders: Orders, program: dict[str, str]) -> None:
        self._orders, self._program, self._parent = orders, program, os.getppid()
        self._heard: dict[str, bytearray] = {name: bytearray() for name in ("answers", "out", "errors", "status")}
        self._pipes = _Pipes()
        self._waiting = b"".join(_framed(program[part]) for part in ("source", "check", "token"))
        self._stopped = ""
        self._started = False
        self._keeper = _fork_keeper(orders, self._pipes)
        self._deadline = time.monotonic() + orders["grace"]
        self._ends = selectors.DefaultSelector()

    def run(self) -> dict[str, object]:
        """Feed it, hear it, and stop it at its limits; return what came of it."""
        os.set_blocking(self._pipes.orders[1], False)
        self._ends.register(self._pipes.orders[1], selectors.EVENT_WRITE, "orders")
        for name in self._heard:
            self._ends.register(getattr(self._pipes, name)[0], selectors.EVENT_READ, name)
        while any(key.data in self._heard for key in self._ends.get_map().values()):
            left = self._deadline - time.monotonic()
            if left <= 0:
                self._stop("time" if self._started else "grace")
            if os.getppid() != self._parent:
                raise ProcessLookupError("whoever gave the orders has died")
            for key, _ in self._ends.select(min(max(0.0, left), 1.0)):
                self._move(key.fd, key.data)
        self._ends.close()
        self._pipes.close_near()
        os.close(self._pipes.alive[1])
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        return self._report()

    def _move(self, end: int, name: str) -> None:
        try:
            if name == "orders":
                self._waiting = self._waiting[os.write(end, self._waiting) :]
                if not self._waiting:
                    self._ends.unregister(end)
                return
            piece = os.read(end, 65536)
        except BrokenPipeError:
            self._ends.unregister(end)
            return
        if not piece:
            self._ends.unregister(end)
        self._hear(name, piece)

    def _hear(self, name: str, piece: bytes) -> None:
        heard = self._heard[name]
        room = self._orders["output"] - len(self._heard["out"]) - len(self._heard["errors"])
        heard += piece[:room] if name in ("out", "errors") else piece[: 4096 - len(heard)]
        if name in ("out", "errors") and len(piece) > room:
            self._stop("output")
        if name == "answers" and piece:
            self._answer(bytes(heard))

    def _answer(self, heard: bytes) -> None:
        token = self._program["token"].encode()
        if not self._started:
            self._started = True
            self._deadline = time.monotonic() + self._orders["seconds"]
        if heard == b"s" + token:
            self._stop("completed")

    def _stop(self, why: str) -> None:
        if self._stopped == "":
            self._stopped = why
            os.kill(self._keeper, signal.SIGKILL)
            self._deadline = time.monotonic() + self._orders["grace"]
        elif (why, self._stopped) == ("output", "completed"):
            # What was written before the token may be read after it.
            self._stopped = why
        elif time.monotonic() >= self._deadline:
            raise TimeoutError("processes that were killed are still there")

    def _report(self) -> dict[str, object]:
        facts: dict[str, object] = {"reason": self._stopped or "exited", "started": self._started}
        if self._heard["answers"].startswith(b"s!"):
            facts["refused"] = bytes(self._heard["answers"][2:]).decode(errors="replace")
        for line in bytes(self._heard["status"]).splitlines():
            facts.update(json.loads(line))
        for name in ("out", "errors"):
            facts[name] = bytes(self._heard[name]).decode("utf-8", "replace")
        return facts


def _framed(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "big") + data


def main() -> None:
    """Carry out the orders on standard input."""
    orders = json.load(sys.stdin)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _call("prctl", _SUBREAPER, 1, 0, 0, 0)
    os.umask(0o022)
    for program in orders["programs"]:
        json.dump(_Watch(orders, program).run(), sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
