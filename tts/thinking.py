"""The cap on a reasoning model's thinking: where it ends, and what closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tts.graph import Node
    from tts.run import Run


def is_inside(run: Run, node: Node) -> bool:
    """Whether the path ends within its thinking."""
    marks = run.sampling
    text = node.path_text
    opened = text.rfind(marks.thinking_open)
    if opened < 0 and not run.prompt.text.rstrip().endswith(marks.thinking_open):
        return False
    return text.rfind(marks.thinking_close) <= opened if opened >= 0 else marks.thinking_close not in text


def allowed_tokens(run: Run, parent: Node, cap: int, *, whole: bool) -> int:
    """Return how many tokens a request may sample: `cap`, or what the thinking that it continues has left.

    A whole path that has sampled nothing yet may be about to think, and is stopped at the thinking's cap to look.
    """
    limit = run.sampling.thinking_tokens
    if limit is None:
        return cap
    begins = whole and not any(node.tokens for node in parent.path())
    if not begins and not is_inside(run, parent):
        return cap
    return min(cap, max(1, limit - _thought(run, parent)))


def _thought(run: Run, node: Node) -> int:
    """Count the tokens since the thinking was opened: in the prompt, or in the path's last step that opens one."""
    total = 0
    for step in reversed(node.path()):
        total += step.tokens
        if run.sampling.thinking_open in step.text:
            break
    return total


def closing(run: Run, node: Node) -> str:
    """Return what ends the thinking of a path that has used up its cap; nothing if it was not thinking.

    Budget forcing's early end (s1, arXiv 2501.19393): the end-of-thinking mark is put in and the model goes on to
    answer.
    """
    return f"\n{run.sampling.thinking_close}\n\n" if is_inside(run, node) else ""
