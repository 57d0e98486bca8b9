"""The sandbox against programs that really try: as the user who runs the tests; where that is root, as nobody too."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tts.errors import NeedsError, ParameterError, VerifierError
from tts.sandbox import MIB, Limits, Program, Result, Sandbox
from tts.sandbox.system_calls import call_filter

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534
LIMITS = Limits(cpu=1, memory=256 * MIB, processes=3, disk=MIB, files=16, output=4096, seconds=60)

LIBRARY = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)"
REFUSED = {
    "a fork bomb": """
import os, signal
first = os.getpid()
while True:
    try: os.fork()
    except OSError:
        if os.getpid() == first: raise
        signal.pause()""",
    "a thread bomb": """
import threading, signal
for _ in range(50): threading.Thread(target=signal.pause, daemon=True).start()""",
    "a memory bomb": "held = []\nwhile True: held.append(bytearray(2**20))",
    "memory that no process owns": "import os\nos.memfd_create('kept')",
    "shared memory of which one page is kept": LIBRARY
    + """
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
size = 2**26
for _ in range(8):
    place = libc.mmap(None, size, 3, 0x21, -1, 0)
    if place in (None, 2**64 - 1): raise OSError(ctypes.get_errno(), 'mmap')
    ctypes.memset(place, 1, size)
    libc.munmap(place + 4096, size - 4096)""",
    "shared memory of a device": "open('/dev/zero')",
    "memory that a pipe holds": LIBRARY
    + """
part = (ctypes.c_size_t * 2)(ctypes.addressof(ctypes.create_string_buffer(4096)), 4096)
if libc.vmsplice(os.pipe()[1], part, 1, 0) == -1: raise OSError(ctypes.get_errno(), 'vmsplice')""",
    "System V memory": LIBRARY
    + """
if libc.shmget(0, 4096, 0o1600) == -1: raise OSError(ctypes.get_errno(), 'shmget')""",
    "a socket": "import socket\nsocket.create_connection(('1.1.1.1', 53), 1)",
    "a local socket": "import socket\nsocket.socket(socket.AF_UNIX)",
    "a socket that can be connected later": "import socket\nsocket.socketpair(type=socket.SOCK_DGRAM)",
    "the home folder": "print(open({secret!r}).read())",
    "the passwords": "open('/etc/passwd')",
    "another's environment": "open('/proc/1/environ')",
    "killing the parent": "import os\nos.kill({supervisor}, 9)",
    "writing outside": "open('/outside', 'w')",
    "writing to the interpreter": "import os, sys\nopen(os.path.join(sys.prefix, 'outside'), 'w')",
    "one file too large": "import signal\nsignal.signal(signal.SIGXFSZ, 1)\nopen('large', 'wb').write(bytes(2**21))",
    "filling the disk": """
for number in range(15):
    with open(f'part{number}', 'wb') as file: file.write(bytes(2**18))""",
    "many files": "for number in range(100): open(f'file{number}', 'w').close()",
    "raising a limit": "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (99, 99))",
    "becoming root": "import os\nos.setuid(0)",
    "a new namespace": LIBRARY
    + """
if libc.unshare(0x10000000): raise OSError(ctypes.get_errno(), 'unshare')""",
    "looking into its parent": LIBRARY
    + """
if libc.ptrace(16, os.getppid(), 0, 0): raise OSError(ctypes.get_errno(), 'ptrace')""",
    "mounting": LIBRARY
    + """
if libc.mount(b'none', os.getcwdb(), b'tmpfs', 0, b''): raise OSError(ctypes.get_errno(), 'mount')""",
}
"""What each attempt does; the system refuses it, and it ends with one of these errors."""
ERRORS = ("PermissionError", "BlockingIOError", "MemoryError", "OSError", "FileNotFoundError", "ProcessLookupError",
          "RuntimeError: can't start new thread", "ValueError: not allowed to raise maximum limit")  # fmt: skip

STOPPED = {
    "an endless loop": ("while True: pass", "exited", (-signal.SIGXCPU, -signal.SIGKILL)),
    "an endless loop that hides": (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "exited", (-signal.SIGKILL,)
    ),
    "endless output": ("while True: print('x' * 1000)", "output", (None,)),
    "every signal to all and to the first": ("""
import os
for process in (-1, 1):
    for number in range(1, 65):
        try: os.kill(process, number)
        except OSError: pass
raise SystemExit(7)""", "exited", (-signal.SIGHUP,)),
    "a child that stays behind": ("""
import os, signal
if os.fork() == 0: os.setsid(); signal.pause()
raise SystemExit(7)""", "exited", (7,)),
}  # fmt: skip
"""What each attempt does, and how it ends."""


def available() -> bool:
    """Whether this system promises isolation, found out without the code under test."""
    if sys.platform != "linux" or call_filter(os.uname().machine) is None:
        return False
    flags = ["--net", "--pid", "--mount", "--ipc", "--uts", "--fork"]
    command = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-current-user"]), *flags]
    return subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0


AVAILABLE = available()


async def attempt(source: str, limits: Limits = LIMITS, check: str = "") -> Result:
    (result,) = await Sandbox(limits).run([Program(source, check)])
    return result


async def all_attempts(secret: str) -> dict[str, Any]:
    """Make every attempt in one sandbox, and return what each met."""
    sources = REFUSED | {name: case[0] for name, case in STOPPED.items()}
    known = {"{secret!r}": repr(secret), "{supervisor}": str(os.getpid())}
    programs = [
        Program(re.sub("|".join(map(re.escape, known)), lambda mark: known[mark[0]], source))
        for source in sources.values()
    ]
    results = await Sandbox(LIMITS).run(programs)
    last = [(result.stderr.splitlines() or [""])[-1] for result in results]
    met = [[one.completed, one.reason, one.status, said, one.stdout] for one, said in zip(results, last, strict=True)]
    return dict(zip(sources, met, strict=True))


def check_attempts(met: dict[str, Any], secret: str) -> None:
    assert set(met) == {*REFUSED, *STOPPED}
    for name in REFUSED:
        completed, reason, status, said, _ = met[name]
        assert (completed, reason) == (False, "exited"), (name, met[name])
        assert status == 1 and said.startswith(ERRORS), (name, met[name])
    for name, (_, how, statuses) in STOPPED.items():
        assert met[name][:2] == [False, how] and met[name][2] in statuses, (name, met[name])
    assert secret not in json.dumps(met)


@pytest.fixture
def secret() -> Any:
    """A file in the home folder, with a word that no program may say."""
    path = Path.home() / f".sandbox-test-{os.getpid()}"
    path.write_text("the secret word", encoding="utf-8")
    yield str(path)
    path.unlink()


def report(secret: str) -> None:
    """Print what the attempts met, for a test that runs this as another user."""
    met: dict[str, Any] = {}
    try:
        met["met"] = anyio.run(all_attempts, secret)
    except NeedsError as error:
        met["refused"] = str(error)
    json.dump({"available": AVAILABLE, "uid": os.getuid(), **met}, sys.stdout)


def as_nobody() -> dict[str, Any]:
    """Run `report` as a user without privileges, who is shown this Python and this tree also where home is closed."""
    shown = dict.fromkeys(map(str, (sys.base_prefix, sys.prefix, ROOT)))
    keep = [f"mkdir /mnt/{place}\nmount --rbind '{path}' /mnt/{place}" for place, path in enumerate(shown)]
    show = [f"mkdir -p '{path}'\nmount --rbind /mnt/{place} '{path}'" for place, path in enumerate(shown)]
    lines = "\n".join(["mount -t tmpfs -o mode=755 none /mnt", *keep, f"mount -t tmpfs none '{Path.home()}'", *show])
    script = f"""set -e
umask 022
{lines}
chmod 755 '{Path.home()}'
mkdir /mnt/home
echo 'the secret word' > /mnt/home/secret
chown -R {NOBODY} /mnt/home
cd /mnt/home
exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env -i HOME=/mnt/home PATH="$PATH" \\
    PYTHONPATH='{ROOT}' PYTHONDONTWRITEBYTECODE=1 \\
    '{sys.executable}' -c "from tests.test_sandbox import report; report('/mnt/home/secret')"
"""
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def processes(mark: str) -> list[int]:
    """Return the processes of supervisors, their forks included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            found += [int(entry.name)] if mark in command else []
    return sorted(found)


async def until(met: Callable[[], bool]) -> None:
    for _ in range(800):
        if met():
            return
        await anyio.sleep(0.05)
    pytest.fail("what was awaited has not come")


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run supervisors of this test only under a name of their own."""
    folder = tmp_path / "sandbox"
    folder.mkdir()
    for name in ("supervisor.py", "runner.py", "exchange.py"):
        (folder / name).write_bytes((ROOT / "tts" / "sandbox" / name).read_bytes())
    monkeypatch.setattr("tts.sandbox.__file__", str(folder / "__init__.py"))
    return str(folder)


if AVAILABLE:

    @pytest.mark.timeout(600)
    def test_what_is_tried_from_inside_meets_a_wall(secret: str) -> None:
        check_attempts(anyio.run(all_attempts, secret), "the secret word")

    async def test_what_is_asked_for_works() -> None:
        source = """
import asyncio, os, subprocess, threading
def double(number): return 2 * number
async def three(): return 3
thread = threading.Thread(target=lambda: print('a thread'))
thread.start(); thread.join()
own = os.environ['TMPDIR']
open(own + '/file', 'w').write('kept')
print(asyncio.run(three()), open('file').read(), os.listdir(own), sorted(os.environ))
"""
        result = await attempt(source, check="assert double(4) == 8")
        assert result.completed and result.stderr == ""
        variables = ["HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH", "PYTHONHASHSEED", "TMPDIR"]
        assert result.stdout == f"a thread\n3 kept ['file'] {variables}\n"

    async def test_time_ends_what_only_waits() -> None:
        sandbox = Sandbox()
        await sandbox.connect()
        sandbox.limits = Limits(seconds=0.2)
        (result,) = await sandbox.run([Program("import signal\nsignal.pause()")])
        assert (result.completed, result.reason, result.status) == (False, "time", None)

    async def test_output_is_cut_where_it_is_bounded() -> None:
        result = await attempt("import os\nos.write(2, b'e' * 3000)\nos.write(1, b'o' * 3000)\nos.write(1, b'p')")
        assert result.reason == "output" and len(result.stdout) + len(result.stderr) == LIMITS.output

    async def test_programs_share_nothing() -> None:
        writes = Program("open('left', 'w').write('word')\nimport os\nprint(os.getuid())")
        reads = Program("import os\nprint(os.listdir())")
        first, second = await Sandbox(LIMITS).run([writes, reads])
        assert first.completed and second.stdout == "[]\n"

    async def test_cancelling_kills_all_that_runs(mark: str) -> None:
        sandbox = Sandbox(LIMITS)
        await sandbox.connect()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sandbox.run, [Program("import signal\nsignal.pause()")])
            await until(lambda: len(processes(mark)) >= 3)
            tasks.cancel_scope.cancel()
        await until(lambda: not processes(mark))

    async def test_a_supervisor_that_is_killed_is_an_error_and_takes_all_along(mark: str) -> None:
        sandbox = Sandbox(LIMITS)
        await sandbox.connect()
        async with anyio.create_task_group() as tasks:

            async def kill() -> None:
                await until(lambda: len(processes(mark)) >= 3)
                os.kill(min(processes(mark)), signal.SIGKILL)

            tasks.start_soon(kill)
            with pytest.raises(VerifierError, match="ended with -9"):
                await sandbox.run([Program("import signal\nsignal.pause()")])
        await until(lambda: not processes(mark))

    async def test_isolation_that_fails_is_refused(mark: str) -> None:
        supervisor = Path(mark) / "supervisor.py"
        text = supervisor.read_text(encoding="utf-8")
        for gone, missing in (
            ('    _call("prctl", _SECCOMP, 2, ctypes.c_char_p(program), 0, 0)\n', "the network"),
            ('        "AS": orders["memory"],\n', "memory"),
            ('        "NPROC": orders["processes"] + (1 if uid else 3),\n', "processes"),
        ):
            assert gone in text
            supervisor.write_text(text.replace(gone, ""), encoding="utf-8")
            with pytest.raises(NeedsError, match=f"isolation does not hold for {missing}"):
                await Sandbox(LIMITS).connect()

    async def test_a_sandbox_that_breaks_later_is_an_error(mark: str) -> None:
        sandbox = Sandbox(LIMITS)
        await sandbox.connect()
        (Path(mark) / "supervisor.py").write_text("raise SystemExit('broken')", encoding="utf-8")
        with pytest.raises(VerifierError, match="broken"):
            await sandbox.run([Program("")])

    if os.geteuid() == 0:

        @pytest.mark.timeout(600)
        def test_the_same_as_a_user_without_privileges() -> None:
            found = as_nobody()
            assert found["uid"] == NOBODY
            if found["available"]:
                check_attempts(found["met"], "the secret word")
            else:
                assert "no sandbox here" in found["refused"]

else:

    async def test_no_program_runs_where_there_is_no_isolation() -> None:
        with pytest.raises(NeedsError, match="no sandbox here"):
            await attempt("print('ran')")


async def test_a_root_with_no_other_uid_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("tts.sandbox._mapped_ids", lambda: iter([1]))
    with pytest.raises(NeedsError, match=r"no other uid to give|no sandbox here: \w+ on "):
        await attempt("print('ran')")


async def test_a_home_that_python_lies_around_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", os.path.join(sys.prefix, "lib"))
    with pytest.raises(NeedsError, match=r"the home folder|no sandbox here"):
        await attempt("print('ran')")


def test_limits_that_bound_nothing_are_refused() -> None:
    for name in ("seconds", "cpu", "memory", "processes", "disk", "files", "output"):
        for value in (0, -1, float("inf")):
            with pytest.raises(ParameterError, match=name):
                Limits(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"memory=0\.5: .* whole"):
        Limits(memory=0.5)  # type: ignore[arg-type]
