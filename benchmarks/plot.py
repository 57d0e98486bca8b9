"""Accuracy against tokens as SVG, written by hand: no plotting library, and the same bytes for the same figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 16, 44
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of Okabe and Ito, told apart by colour-blind readers too."""


class Point(NamedTuple):
    """Tokens a problem, and the accuracy they buy with its interval."""

    tokens: float
    accuracy: float
    low: float
    high: float


class _Axes:
    """Where a point lies on the page: tokens by their logarithm, accuracy from 0 to 1."""

    def __init__(self, points: Sequence[Point]) -> None:
        tokens = [point.tokens for point in points]
        self.first = math.floor(math.log2(min(tokens)))
        self.last = max(self.first + 1, math.ceil(math.log2(max(tokens))))

    def x(self, tokens: float) -> float:
        share = (math.log2(tokens) - self.first) / (self.last - self.first)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    @staticmethod
    def y(accuracy: float) -> float:
        return round(TOP + (1 - accuracy) * (HEIGHT - TOP - BOTTOM), 1)

    def grid(self) -> list[str]:
        drawn = [self._line(share / 5) for share in range(6)]
        step = math.ceil((self.last - self.first) / 8)
        for power in range(self.first, self.last + 1, step):
            label = f"{2**power:,}" if power >= 0 else f"{2.0**power:g}"
            drawn.append(_text(self.x(2.0**power), HEIGHT - BOTTOM + 18, label, "middle"))
        return drawn

    def _line(self, share: float) -> str:
        line = f'<line x1="{LEFT}" y1="{self.y(share)}" x2="{WIDTH - RIGHT}" y2="{self.y(share)}" stroke="#ddd"/>'
        return line + _text(LEFT - 8, self.y(share) + 4, f"{share:.1f}", "end")


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def accuracy_svg(lines: Mapping[str, Sequence[Point]]) -> str:
    """Draw a line of points with their intervals for each label; tokens are on a logarithmic axis."""
    points = [point for line in lines.values() for point in line]
    drawn: list[str] = []
    if points:
        axes = _Axes(points)
        drawn += axes.grid()
        for place, (label, line) in enumerate(lines.items()):
            drawn += _draw(axes, COLOURS[place % len(COLOURS)], sorted(line))
            drawn += _legend(place, label)
    middle = (LEFT + WIDTH - RIGHT) / 2
    drawn.append(_text(middle, HEIGHT - 8, "generated tokens a problem", "middle"))
    drawn.append(f'<text transform="translate(14 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">accuracy</text>')
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *drawn, "</svg>", ""])


def _draw(axes: _Axes, colour: str, line: Sequence[Point]) -> list[str]:
    path = " ".join(f"{axes.x(point.tokens)},{axes.y(point.accuracy)}" for point in line)
    drawn = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for point in line:
        x = axes.x(point.tokens)
        bar = f'<line x1="{x}" y1="{axes.y(point.low)}" x2="{x}" y2="{axes.y(point.high)}" stroke="{colour}"/>'
        drawn.append(bar + f'<circle cx="{x}" cy="{axes.y(point.accuracy)}" r="3.5" fill="{colour}"/>')
    return drawn


def _legend(place: int, label: str) -> list[str]:
    x, y = WIDTH - RIGHT + 14, TOP + 12 + 20 * place
    key = f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLOURS[place % len(COLOURS)]}"/>'
    return [key, _text(x + 16, y, label)]
