"""The filter of system calls under which candidate code runs, as a program for the kernel (seccomp, mode 2)."""

from __future__ import annotations

import struct

_CALLS = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "sendfile": (40, 71),
    "setns": (308, 268),
    "shmget": (29, 194),
    "socket": (41, 198),
    "splice": (275, 76),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "tee": (276, 77),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}
"""What is refused, with its number on x86_64 and on aarch64 (Linux: arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h): the network; memory that no limit of a process counts (System V, memfd, pages held
by pipes, of which one of 4 KiB can hold a huge page whole); requests that all processes of the system share
(io_setup); other processes' memory; namespaces and mounts; io_uring, which would do all of these unfiltered; what needs
privileges."""

_ARGUMENTS = (
    ((56, 220), 0, 0x7E020000, 1),
    ((9, 222), 3, 0x21, 0x21),
    ((53, 199), 0, 0xFFFFFFFE, 1),
    ((53, 199), 1, 0x2, 1),
)
"""What is refused for an argument: a call's numbers, which argument, its bits that are looked at, and the least number
in them that is refused. `clone` with a flag that makes a namespace. `mmap` of memory that is shared and of no file
(MAP_SHARED and MAP_ANONYMOUS), which stays in memory as a whole while one page of it is mapped, where only that page
is counted. `socketpair` other than of AF_UNIX, which may load a module into the kernel; and with datagrams (SOCK_DGRAM
and SOCK_RAW have this bit), since such an end can be connected to any socket with a path."""

_CLONE3, _NEWEST = 435, 462
"""`clone3` hides its flags from a filter, so the C library is made to use `clone`; 462 is `mseal`, of Linux 6.10."""

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Where they are in what the kernel shows a filter (struct seccomp_data)."""


def call_filter(machine: str) -> bytes | None:
    """Return the filter for a machine, as `platform.machine()` names it; None for one whose calls are not known.

    All that is not named in the table is allowed, but for calls newer than the table: they do not exist, as on an older
    kernel, and programs then do without. `socketpair` of streams is allowed: it joins processes that are inside.
    """
    if machine not in _ARCHITECTURES:
        return None
    column, architecture = _ARCHITECTURES[machine]
    steps = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    steps += _when(_AT_LEAST, _X32, _EPERM) + _when(_AT_LEAST, _NEWEST + 1, _ENOSYS) + _when(_EQUAL, _CLONE3, _ENOSYS)
    for numbers in _CALLS.values():
        steps += _when(_EQUAL, numbers[column], _EPERM)
    for numbers, argument, bits, least in _ARGUMENTS:
        place = _FIRST_ARGUMENT + 8 * argument
        steps += [(_EQUAL, 0, 5, numbers[column]), (_LOAD, 0, 0, place), (_AND, 0, 0, bits)]
        steps += [*_when(_AT_LEAST, least, _EPERM), (_LOAD, 0, 0, _NUMBER)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _when(test: int, value: int, result: int) -> list[tuple[int, int, int, int]]:
    """Return the steps that end with a result where a test of the loaded word holds."""
    return [(test, 0, 1, value), (_RETURN, 0, 0, result)]
