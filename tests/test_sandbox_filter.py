"""The filter of system calls, run step by step as the kernel would."""

from __future__ import annotations

import struct

import pytest

from tts.errors import NeedsError
from tts.sandbox import Program, Sandbox
from tts.sandbox.system_calls import call_filter


def test_a_filter_ends_foreign_calls_and_lets_others_pass() -> None:
    steps = call_filter("x86_64")
    assert steps is not None and len(steps) % 8 == 0
    assert run_filter(steps, 0xC000003E, 39) == 0x7FFF0000  # getpid
    assert run_filter(steps, 0xC000003E, 41) == 0x00050001  # socket
    assert run_filter(steps, 0xC000003E, 56, 0x10000011) == 0x00050001  # clone into a user namespace
    assert run_filter(steps, 0xC000003E, 56, 0x01200011) == 0x7FFF0000  # fork
    assert run_filter(steps, 0xC000003E, 9, 0, 4096, 3, 0x21) == 0x00050001  # shared memory of no file
    assert run_filter(steps, 0xC000003E, 9, 0, 4096, 3, 0x22) == 0x7FFF0000  # private memory
    assert run_filter(steps, 0xC000003E, 9, 0, 4096, 3, 0x01) == 0x7FFF0000  # a file
    for family, kind in ((1, 1), (1, 0x80805)):  # streams and sequenced packets of AF_UNIX
        assert run_filter(steps, 0xC000003E, 53, family, kind) == 0x7FFF0000
    for family, kind in ((1, 2), (1, 0x80803), (30, 5)):  # datagrams, raw, another family
        assert run_filter(steps, 0xC000003E, 53, family, kind) == 0x00050001
    assert run_filter(steps, 0xC000003E, 435) == run_filter(steps, 0xC000003E, 999) == 0x00050026
    assert run_filter(steps, 0xC000003E, 0x40000000 + 41) == 0x00050001
    assert run_filter(steps, 0x40000003, 102) == 0x80000000  # a 32-bit program


def test_a_filter_of_the_other_machine() -> None:
    steps = call_filter("aarch64")
    assert steps is not None and call_filter("riscv64") is None
    assert run_filter(steps, 0xC00000B7, 198) == 0x00050001  # socket
    assert run_filter(steps, 0xC00000B7, 220, 0x40000011) == 0x00050001
    assert run_filter(steps, 0xC00000B7, 222, 0, 4096, 3, 0x21) == 0x00050001
    assert run_filter(steps, 0xC00000B7, 172) == 0x7FFF0000


def run_filter(steps: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Return what a filter says of a call, as the kernel would."""
    data = {0: number, 4: architecture} | {16 + 8 * place: word for place, word in enumerate(arguments)}
    program = list(struct.iter_unpack("=HBBI", steps))
    place, word = 0, 0
    while True:
        code, yes, no, value = program[place]
        place += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            word = data[value]
        elif code == 0x54:
            word &= value
        else:
            holds = {0x15: word == value, 0x35: word >= value}[code]
            place += yes if holds else no


async def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(NeedsError, match=r"no sandbox here: .* on riscv64"):
        await Sandbox().run([Program("print('ran')")])
