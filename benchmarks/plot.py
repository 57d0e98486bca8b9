"""Plots as SVG, written by hand: no plotting library, and the same bytes for the same figures.

Accuracy against tokens, and the share of good labels against the score that they got.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 16, 44
PANEL, GAP, TITLE = 300, 44, 20
"""Of several panels side by side: how wide the field of each is, what lies between two, and the room for a title."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of Okabe and Ito, told apart by colour-blind readers too."""


class Point(NamedTuple):
    """A share, such as an accuracy, with its interval, and what it is plotted against: tokens a problem, or a score."""

    across: float
    share: float
    low: float
    high: float


class _Axes:
    """Where a point lies on the page: tokens by their logarithm, accuracy from 0 to 1."""

    def __init__(self, points: Sequence[Point], left: float = LEFT, right: float = WIDTH - RIGHT) -> None:
        tokens = [point.across for point in points]
        self.left, self.right = left, right
        self.first = math.floor(math.log2(min(tokens)))
        self.last = max(self.first + 1, math.ceil(math.log2(max(tokens))))

    def x(self, tokens: float) -> float:
        share = (math.log2(tokens) - self.first) / (self.last - self.first)
        return round(self.left + share * (self.right - self.left), 1)

    @staticmethod
    def y(accuracy: float) -> float:
        return round(TOP + (1 - accuracy) * (HEIGHT - TOP - BOTTOM), 1)

    def grid(self) -> list[str]:
        drawn = [_rule(self.y(tick / 5), self.left, self.right, tick / 5) for tick in range(6)]
        # A label takes some 50 units.
        step = math.ceil((self.last - self.first) / ((self.right - self.left) // 50))
        for power in range(self.first, self.last + 1, step):
            label = f"{2**power:,}" if power >= 0 else f"{2.0**power:g}"
            drawn.append(_text(self.x(2.0**power), HEIGHT - BOTTOM + 18, label, "middle"))
        return drawn


def _rule(y: float, left: float, right: float, share: float) -> str:
    """Draw a line across the field at a share, with its label."""
    line = f'<line x1="{left}" y1="{y}" x2="{right}" y2="{y}" stroke="#ddd"/>'
    return line + _text(left - 8, y + 4, f"{share:.1f}", "end")


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
            drawn += _draw(axes, _colour(place), sorted(line))
            drawn += _legend(WIDTH, place, label)
    return _page(WIDTH, HEIGHT, drawn, (LEFT + WIDTH - RIGHT) / 2)


def panels_svg(panels: Mapping[str, Mapping[str, Sequence[Point]]]) -> str:
    """Draw a panel for each title, side by side on equal axes; a label has one colour in all of them."""
    points = [point for lines in panels.values() for line in lines.values() for point in line]
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    width = LEFT + len(panels) * (PANEL + GAP) - GAP + RIGHT
    drawn: list[str] = []
    for number, (title, lines) in enumerate(panels.items()):
        left = LEFT + number * (PANEL + GAP)
        axes = _Axes(points, left, left + PANEL)
        drawn += [_text(left + PANEL / 2, 4, title, "middle"), *axes.grid()]
        for label, line in lines.items():
            drawn += _draw(axes, _colour(labels.index(label)), sorted(line))
    for place, label in enumerate(labels):
        drawn += _legend(width, place, label)
    return _page(width, HEIGHT, drawn, (LEFT + width - RIGHT) / 2, above=TITLE)


def reliability_svg(lines: Mapping[str, Sequence[Point]]) -> str:
    """Draw a line of points with their intervals for each label, beside the diagonal on which scores are chances."""
    y, right, middle = _Axes.y, LEFT + HEIGHT - TOP - BOTTOM, LEFT + (HEIGHT - TOP - BOTTOM) / 2

    def x(score: float) -> float:
        return round(LEFT + score * (right - LEFT), 1)

    drawn = [f'<line x1="{LEFT}" y1="{y(0)}" x2="{right}" y2="{y(1)}" stroke="#999" stroke-dasharray="4"/>']
    for tick in range(6):
        share = tick / 5
        drawn += [_rule(y(share), LEFT, right, share), _text(x(share), HEIGHT - BOTTOM + 18, f"{share:.1f}", "middle")]
    for place, (label, line) in enumerate(lines.items()):
        drawn += _connect([(x(point.across), point) for point in sorted(line)], y, _colour(place))
        drawn += _legend(right + RIGHT, place, label)
    return _page(right + RIGHT, HEIGHT, drawn, middle, names=("mean score", "share of good labels"))


def _page(
    width: float,
    height: float,
    drawn: Sequence[str],
    middle: float,
    above: float = 0,
    names: tuple[str, str] = ("generated tokens a problem", "accuracy"),
) -> str:
    """Return the document around what is drawn, with the names of the axes and room for titles above."""
    written = [
        _text(middle, height - 8, names[0], "middle"),
        f'<text transform="translate(14 {height / 2}) rotate(-90)" text-anchor="middle">{names[1]}</text>',
    ]
    top = f"{-above:g}" if above else "0"
    box = f'viewBox="0 {top} {width} {height + above:g}" font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
    ground = f'<rect y="{top}" width="{width}" height="{height + above:g}" fill="#fff"/>'
    return "\n".join([head, ground, *drawn, *written, "</svg>", ""])


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _draw(axes: _Axes, colour: str, line: Sequence[Point]) -> list[str]:
    return _connect([(axes.x(point.across), point) for point in line], axes.y, colour)


def _connect(spots: Sequence[tuple[float, Point]], y: Callable[[float], float], colour: str) -> list[str]:
    """Draw a line through points, each at its place across, with their intervals."""
    path = " ".join(f"{x},{y(point.share)}" for x, point in spots)
    drawn = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for x, point in spots:
        bar = f'<line x1="{x}" y1="{y(point.low)}" x2="{x}" y2="{y(point.high)}" stroke="{colour}"/>'
        drawn.append(bar + f'<circle cx="{x}" cy="{y(point.share)}" r="3.5" fill="{colour}"/>')
    return drawn


def _legend(width: float, place: int, label: str) -> list[str]:
    x, y = width - RIGHT + 14, TOP + 12 + 20 * place
    key = f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{_colour(place)}"/>'
    return [key, _text(x + 16, y, label)]
