"""Classes of difficulty into which a task sorts its problems."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tts.tasks import Item


def count_bands(items: Iterable[Item]) -> dict[str, int]:
    """Return how many problems each band has, the easiest band first, by mean difficulty and then by name.

    Problems without a band are in none; a problem of unknown difficulty counts as one of difficulty 0.
    """
    bands: dict[str, list[float]] = {}
    for item in items:
        if item.band is not None:
            bands.setdefault(item.band, []).append(item.difficulty or 0.0)
    return {band: len(bands[band]) for band in sorted(bands, key=lambda band: (fmean(bands[band]), band))}
