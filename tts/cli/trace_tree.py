"""A traced search as a tree for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from tts.cli.cost import count, spent
from tts.cli.text import one_line, safe
from tts.cli.trace_view import TraceView, ending

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tts.cli.trace_view import Row
    from tts.trace import SearchTrace

MARKS = {
    "open": " ", "finished": "✓", "truncated": "…", "dead": "∅", "cancelled": "✗", "discarded": "↷",
}  # fmt: skip
LEGEND = "★ chosen  ✓ finished  … truncated  ∅ empty  ✗ cancelled in flight  ↷ discarded  dim: pruned  ↳ only child"
TEXT = 120
"""Characters of a node's first line."""


def render(search: SearchTrace, depth: int | None = None) -> RenderableType:
    """Return the tree down to `depth` levels, under what was asked and above what was spent."""
    view = TraceView(search)
    return Group(*_heading(view), _tree(view, depth), Text(), *_summary(view))


def _heading(view: TraceView) -> list[Text]:
    start = view.trace.start
    parameters = " ".join(f"{name}={value}" for name, value in start["parameters"].items())
    return [
        Text(one_line(view.trace.problem.question), style="bold"),
        Text(one_line(f"{start['strategy']}  {parameters}  seed={start['seed']}"), style="dim"),
    ]


def _tree(view: TraceView, depth: int | None) -> Tree:
    top = Tree(Text("prompt"), guide_style="dim")
    work = [(view.root, top)]
    while work:
        row, tree = work.pop()
        work += _grow(row, tree, depth)
    return top


def _grow(row: Row, tree: Tree, depth: int | None) -> list[tuple[Row, Tree]]:
    """Add what lies below; an only child stands under its parent on the same level, so that long paths stay legible."""
    below: list[tuple[Row, Tree]] = []
    for child in row.children:
        step, only = child, False
        while True:
            if depth is not None and _level(step) > depth:
                tree.add(Text(f"{count(_size(child), 'node')} below", style="dim italic"))
                break
            branch = tree.add(label(step, only=only))
            if len(step.children) != 1:
                below.append((step, branch))
                break
            step, only = step.children[0], True
    return below


def _level(row: Row) -> int:
    return row.key.count(".") + 1


def _size(row: Row) -> int:
    work, size = [row], 0
    while work:
        size += 1
        work += work.pop().children
    return size


def label(row: Row, *, only: bool = False) -> Text:
    """Return a node's line: key, mark, score, tokens, and where its text begins."""
    mark = "★" if row.chosen and not any(child.chosen for child in row.children) else MARKS.get(row.status, "?")
    style = "bold green" if row.chosen else "dim" if row.pruned or row.status in ("cancelled", "discarded") else ""
    parts = [(f"{'↳ ' if only else ''}{row.key} ", "cyan" if not style else ""), (f"{mark} ", "")]
    if row.score is not None:
        parts.append((f"{row.score:.3f} ", "" if style else "magenta"))
    if row.event["origin"] == "sampled":
        parts.append((f"{row.event['tokens']} tok ", "" if style else "dim"))
    else:
        parts.append((f"{row.event['origin']} ", "italic"))
    parts.append((_first_line(row.event["text"]), ""))
    if row.candidate is not None and row.candidate["answer"] is not None and "\n" in row.event["text"].strip():
        parts.append((f"  = {one_line(row.candidate['answer'])}", "" if style else "bold"))
    return Text.assemble(*parts, style=style, overflow="ellipsis", no_wrap=True)


def _first_line(text: str) -> str:
    line = next((line for line in safe(text).splitlines() if line.strip()), "")
    return line.strip()[:TEXT]


def _summary(view: TraceView) -> list[Text]:
    usage, outcome = view.usage, view.trace.outcome
    lines = [Text(LEGEND, style="dim")]
    nodes = [count(len(view.rows) - 1, "node")]
    nodes += [f"{view.count(status)} {status}" for status in MARKS if status != "open" and view.count(status)]
    lines.append(Text(", ".join(nodes)))
    wasted = ("pruned", "cancelled", "discarded", "failed")
    parts = [f"{getattr(usage, name):,} {name}" for name in wasted if getattr(usage, name)]
    lines.append(Text(f"spent: {spent(usage)}" + (f" (tokens: {', '.join(parts)})" if parts else "")))
    answer = "" if outcome is None or outcome["answer"] is None else f"answer: {one_line(outcome['answer'])}  "
    lines.append(Text(f"{answer}{one_line(ending(view.trace))}", style="bold"))
    return lines
