"""Seeds derived by hashing, so that what a draw gives depends on where it stands and not on when it happens."""

from __future__ import annotations

import random
from hashlib import blake2b

from tts.protocols import SEED_BLOCK


def derive(*parts: object) -> int:
    """Return a 62-bit integer that depends on every part."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big") >> 2


def request_seed(run_seed: int, parent_key: tuple[int, ...], first_draw: int) -> int:
    """Return the base seed of a request: a multiple of `SEED_BLOCK`, to which each child adds its place."""
    return derive(run_seed, ".".join(map(str, parent_key)), first_draw) // SEED_BLOCK * SEED_BLOCK


def generator(*parts: object) -> random.Random:
    """Return a random generator seeded by `parts`."""
    return random.Random(derive(*parts))
