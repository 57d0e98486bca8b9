"""Run every measurement of this folder: `python -m tts.benchmarks.speed`."""

from __future__ import annotations

import anyio

from tts.benchmarks.speed import embedded, runtime, search

if __name__ == "__main__":
    print("The runtime, on a generator that answers at once")
    runtime.main()
    print("\nThe embedded engine")
    anyio.run(embedded.main, 1, 3)
    print("\nA search beside its engine")
    anyio.run(search.main, 5)
