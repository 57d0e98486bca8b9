"""A trace as one page for a browser: nothing is fetched, and text of a model is never read as markup."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tts.cli.trace_view import TraceView, ending

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tts.cli.trace_view import Row
    from tts.trace import SearchTrace

STYLE = "trace_page.css"
SCRIPTS = ("trace_base.js", "trace_outline.js", "trace_details.js", "trace_charts.js", "trace_page.js")


def build(searches: Sequence[SearchTrace]) -> str:
    """Return the page."""
    style = _resource(STYLE)
    script = '"use strict";\n' + "".join(map(_resource, SCRIPTS))
    page = _resource("trace_page.html")
    # The data come last, so that nothing in them is taken for one of the marks.
    for mark, text in (
        ("@STYLE_HASH@", _hash(style)), ("@SCRIPT_HASH@", _hash(script)), ("@STYLE@", style), ("@SCRIPT@", script),
        ("@DATA@", embed([facts(search) for search in searches])),
    ):  # fmt: skip
        page = page.replace(mark, text, 1)
    return page


def embed(value: object) -> str:
    """Return JSON that is safe between script tags: plain ASCII, without any of the signs that markup is made of."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _resource(name: str) -> str:
    return files("tts.cli").joinpath(name).read_text(encoding="utf-8")


def facts(search: SearchTrace) -> dict[str, Any]:
    """Return everything that the page shows of one search."""
    view, start, outcome = TraceView(search), search.start, search.outcome
    numbers = {row.key: number for number, row in enumerate(view.rows)}
    told = ("strategy", "parameters", "seed", "version", "order_sensitive", "sampling", "budget", "caps", "prompt")
    return {
        **{name: start[name] for name in told},
        "problem": start["problem"],
        "messages": start["messages"],
        "generator": start["generator"]["name"],
        "verifier": start["verifier"] and start["verifier"]["name"],
        "ending": ending(search),
        "outcome": outcome and {name: value for name, value in outcome.items() if name not in _ELSEWHERE},
        "usage": view.usage.model_dump(mode="json"),
        "rows": [_row(row, numbers) for row in view.rows],
        "calls": list(_calls(search.events)),
        "faults": [_without_kind(event) for event in search.events if event["event"] == "failed"],
    }


_ELSEWHERE = ("candidates", "usage", "fingerprint", "parameters")
"""Parts of an outcome that the page has from elsewhere, or does not show."""


def _row(row: Row, numbers: dict[str, int]) -> dict[str, Any]:
    event = row.event
    facts: dict[str, Any] = {
        "key": row.key, "parent": -1 if row.parent is None else numbers[row.parent.key], "status": row.status,
        "origin": event["origin"], "text": event["text"], "tokens": event["tokens"], "at": event["seconds"],
        "seed": str(event.get("seed")), "asked": row.asked, "score": row.score, "scores": row.scores,
        "chosen": row.chosen, "pruned": row.pruned,
    }  # fmt: skip
    if "logprobs" in event:
        facts["logprobs"] = [round(value, 3) for value in event["logprobs"]]
    if row.candidate is not None:
        facts["answer"] = row.candidate["answer"]
        facts["votes"] = row.candidate["votes"]
    return facts


def _calls(events: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    asked: dict[str, float] = {}
    for event in events:
        if event["event"] == "judging":
            asked[event["keys"][0]] = event["seconds"]
        elif event["event"] == "verified":
            since = asked.pop(event["keys"][0], event["seconds"])
            yield {"from": since, "to": event["seconds"], "paths": event["calls"], "tokens": event["tokens"]}


def _without_kind(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in ("event", "search")}
