"""What runs candidate code, in the process of that code; the sandbox hands this file to a fresh interpreter as text.

Nothing here is on show under a name that candidate code would meet, and what it uses afterwards it took before.
"""

from __future__ import annotations


def _main() -> None:
    """Run the program, then its check in the same module; then hand back the token, which comes after the check.

    The check is not sent until the program's top level has ended, so a program that exits early, prints, or never ends
    has not seen it. What a program did to the built-in functions and to tracing is undone before the check.
    """
    import builtins
    import os
    import sys
    from types import ModuleType

    orders, answers = 3, 4
    read, write, run, read_code, size_of, intact = os.read, os.write, exec, compile, len, dict(vars(builtins))
    number, stop_tracing, stop_profiling = int.from_bytes, sys.settrace, sys.setprofile
    saved = vars(builtins)

    def exactly(size: int) -> bytes:
        given = b""
        while size_of(given) < size:
            piece = read(orders, size - size_of(given))
            if not piece:
                raise EOFError
            given += piece
        return given

    def received() -> bytes:
        return exactly(number(exactly(8), "big"))

    module = ModuleType("candidate")
    sys.modules["candidate"] = module
    source = received()
    write(answers, b"s")
    run(read_code(source, "<candidate>", "exec", dont_inherit=True), vars(module))
    stop_tracing(None)
    stop_profiling(None)
    write(answers, b"l")
    check = received()
    saved.clear()
    saved.update(intact)
    run(read_code(check, "<check>", "exec", dont_inherit=True), module.__dict__)
    write(answers, received())


if __name__ == "__main__":
    _main()
