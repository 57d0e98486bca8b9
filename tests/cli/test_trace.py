"""`tts trace`: the tree in the terminal and the page, whole and cut traces, and text that would act on either."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

import tts as library
from tests.cli.conftest import NASTY
from tts.cli.trace import write_page
from tts.cli.trace_page import SCRIPTS, _resource, embed
from tts.cli.trace_tree import render
from tts.cli.trace_view import TraceView
from tts.errors import BackendError, ParameterError
from tts.fakes import ScriptedGenerator, ScriptedVerifier, shuffled, tree_script
from tts.trace import read_trace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Tts


def record(path: Path, name: str = "beam", question: str = "hello", **options: Any) -> library.Outcome:
    parameters = options.pop("parameters", {})
    generator = ScriptedGenerator(options.pop("script", tree_script()), schedule=shuffled(1))
    generator.faults = options.pop("faults", generator.faults)
    verifier = ScriptedVerifier(schedule=shuffled(2))
    strategy = library.strategy(name, **parameters)
    try:
        return library.solve_sync(
            question, strategy=strategy, generator=generator, verifier=verifier, trace=path, **options
        )
    except library.TTSError as error:
        assert error.outcome is not None
        return error.outcome


class Page(HTMLParser):
    """What a browser would make of a page, as far as it matters here."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = [("", {})]
        self.text: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(("", {}))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1]
        name = attributes.get("id") or tag
        self.text[name] = self.text.get(name, "") + data

    @property
    def data(self) -> list[dict[str, Any]]:
        loaded: list[dict[str, Any]] = json.loads(self.text["data"])
        return loaded


def page_of(tts: Tts, trace: Path, *flags: str) -> Page:
    out = trace.with_suffix(".html")
    ran = tts("trace", "html", str(trace), *flags)
    assert (ran.code, ran.out.strip()) == (0, str(out))
    return Page(out.read_text())


def test_show_draws_every_node_and_what_was_spent(tts: Tts, tmp_path: Path) -> None:
    outcome = record(tmp_path / "x.jsonl")
    ran = tts("trace", "show", str(tmp_path / "x.jsonl"))
    assert ran.code == 0
    assert outcome.graph is not None
    for node in outcome.graph.nodes[1:]:
        assert re.search(rf"[├└]── (↳ )?{re.escape('.'.join(map(str, node.key)))} ", ran.out)
    assert ran.out.count(" ★ ") == 1
    assert f"{outcome.usage.generated:,} tokens" in ran.out
    assert f"{outcome.usage.pruned:,} pruned" in ran.out
    assert f"answer: {outcome.answer}  done" in ran.out


def test_show_stops_at_a_depth_and_says_what_is_below(tts: Tts, tmp_path: Path) -> None:
    outcome = record(tmp_path / "x.jsonl")
    ran = tts("trace", "show", str(tmp_path / "x.jsonl"), "--depth", "1")
    assert outcome.graph is not None
    deeper = sum(node.depth > 1 for node in outcome.graph)
    assert sum(map(int, re.findall(r"(\d+) nodes? below", ran.out))) == deeper
    assert tts("trace", "show", str(tmp_path / "x.jsonl"), "--depth", "0").code == 2


def test_show_marks_what_was_cancelled_discarded_and_truncated(tts: Tts, tmp_path: Path) -> None:
    record(tmp_path / "x.jsonl", "first_finish", parameters={"n": 9, "tie": "arrival"})
    assert re.search(r"[1-9]\d* cancelled", tts("trace", "show", str(tmp_path / "x.jsonl")).out)
    record(tmp_path / "x.jsonl", sampling=library.Sampling(max_tokens=12, step_tokens=6))
    shown = tts("trace", "show", str(tmp_path / "x.jsonl")).out
    assert " truncated" in shown and " … " in shown


def test_a_path_without_branches_is_not_indented(tts: Tts, tmp_path: Path) -> None:
    def chain(path: str, seed: int) -> str:
        return "step\n\n" if path.count("\n\n") < 30 else "The answer is \\boxed{1}"

    record(tmp_path / "x.jsonl", parameters={"width": 1, "expansion": 1}, script=chain)
    lines = [line for line in tts("trace", "show", str(tmp_path / "x.jsonl")).out.splitlines() if "↳ 0" in line]
    assert len(lines) == 30
    assert all(line.startswith(("├── ↳", "└── ↳")) for line in lines)


def test_show_lists_several_searches_and_draws_the_one_asked_for(tts: Tts, tmp_path: Path) -> None:
    record_many(tmp_path / "x.jsonl")
    ran = tts("trace", "show", str(tmp_path / "x.jsonl"))
    assert len(re.findall(r"^ +\d  self_consistency: done, \d+ tokens", ran.out, re.MULTILINE)) == 3
    assert "--search K" in ran.out
    assert "├── 0 " in tts("trace", "show", str(tmp_path / "x.jsonl"), "--search", "2").out
    ran = tts("trace", "show", str(tmp_path / "x.jsonl"), "--search", "3")
    assert ran.code == 2
    assert "--search is 3" in ran.err and "holds 3" in ran.err


def record_many(path: Path) -> None:
    list(library.solve_many_sync(["a?", "b?", "c?"], generator=ScriptedGenerator(tree_script()), trace=path))


@pytest.mark.parametrize("kept", [1, 2, 30])
def test_a_trace_cut_by_a_crash_is_shown_as_far_as_it_goes(tts: Tts, tmp_path: Path, kept: int) -> None:
    record(tmp_path / "x.jsonl")
    lines = (tmp_path / "x.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(lines[:kept]) + lines[kept][:25])
    assert "broken off" in tts("trace", "show", str(tmp_path / "cut.jsonl")).out
    [search] = page_of(tts, tmp_path / "cut.jsonl").data
    assert search["outcome"] is None
    assert "broken off" in search["ending"]


def test_usage_of_a_cut_trace_is_that_of_its_events(tmp_path: Path) -> None:
    outcome = record(tmp_path / "x.jsonl", "first_finish", parameters={"n": 9, "tie": "arrival"})
    [trace] = read_trace(tmp_path / "x.jsonl")
    trace.outcome = None
    exclude = {"seconds", "verifier_seconds", "critical_path", "dollars", "flops", "unobserved"}
    assert TraceView(trace).usage.model_dump(exclude=exclude) == outcome.usage.model_dump(exclude=exclude)


def test_view_agrees_with_the_outcome_on_what_was_pruned(tmp_path: Path) -> None:
    outcome = record(tmp_path / "x.jsonl")
    view = TraceView(read_trace(tmp_path / "x.jsonl")[0])
    assert sum(row.event["tokens"] for row in view.rows if row.pruned) == outcome.usage.pruned
    assert max((row.key for row in view.rows if row.chosen), key=len) == outcome.candidates[0].key


def nasty(path: str, seed: int) -> str:
    return NASTY + "</script><img src=x onerror=alert(1)> @DATA@ @SCRIPT@ &amp; \ud800 \u2028"


def test_text_of_a_model_reaches_the_terminal_without_control_characters(tts: Tts, tmp_path: Path) -> None:
    record(tmp_path / "x.jsonl", "best_of_n", question=NASTY, script=nasty, parameters={"n": 2})
    ran = tts("trace", "show", str(tmp_path / "x.jsonl"))
    assert ran.code == 0
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", ran.out)
    assert "[bold]not bold[/bold]" in ran.out
    assert ":smile:" in ran.out


def test_text_of_a_model_is_data_in_the_page(tts: Tts, tmp_path: Path) -> None:
    record(tmp_path / "x.jsonl", "best_of_n", question=NASTY + "</script>", script=nasty, parameters={"n": 2})
    page = page_of(tts, tmp_path / "x.jsonl")
    [search] = page.data
    assert NASTY in search["rows"][1]["text"]
    assert search["messages"][0]["content"] == NASTY + "</script>"
    assert "<" not in page.text["data"] and ">" not in page.text["data"] and "&" not in page.text["data"]
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "img" not in [tag for tag, _ in page.tags]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_page_fetches_nothing_and_runs_nothing_but_its_own_script(tts: Tts, tmp_path: Path) -> None:
    record(tmp_path / "x.jsonl")
    page = page_of(tts, tmp_path / "x.jsonl")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for kind, text in (("script", page.text["script"]), ("style", page.text["style"])):
        digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [a for _, a in page.tags if {"src", "href", "action", "style"} & a.keys()]
    assert "@" not in re.sub(r"@(media|keyframes)", "", page.text["style"])


def test_script_makes_no_markup_of_strings() -> None:
    script = "".join(map(_resource, SCRIPTS))
    ways = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch(", "http")
    assert not [way for way in ways if way in script]


def test_embedded_data_come_back() -> None:
    value = {"a": "</script><!-- & \u2028 \ud800 \x1b é", "b": [1.5, None, True]}
    assert json.loads(embed(value)) == value
    assert embed(value).isascii()


def test_page_tells_what_was_chosen_pruned_cancelled_and_spent(tts: Tts, tmp_path: Path) -> None:
    outcome = record(tmp_path / "x.jsonl", "a_star", parameters={"parallel": 3, "expansion": 3, "as_completed": True})
    [search] = page_of(tts, tmp_path / "x.jsonl").data
    assert search["outcome"]["answer"] == outcome.answer
    assert search["usage"] == outcome.usage.model_dump(mode="json")
    assert outcome.graph is not None
    rows = {row["key"]: row for row in search["rows"]}
    for node in outcome.graph:
        row = rows[".".join(map(str, node.key))]
        assert (row["status"], row["tokens"], row["score"]) == (node.status, node.tokens, node.score)
        assert row["text"] == node.text
        if node.parent is not None:
            assert search["rows"][row["parent"]]["key"] == ".".join(map(str, node.parent.key))
            assert row["asked"] <= row["at"]
    assert sum(call["paths"] for call in search["calls"]) == outcome.usage.verifier_calls


def test_page_of_a_search_that_failed_tells_so(tts: Tts, tmp_path: Path) -> None:
    record(tmp_path / "x.jsonl", faults=lambda call: BackendError("<b>gone</b>") if call == 4 else None)
    [search] = page_of(tts, tmp_path / "x.jsonl").data
    assert search["ending"] == "error: BackendError: <b>gone</b>"
    assert search["outcome"]["answer"] is None


def test_page_holds_all_searches_or_the_one_asked_for(tts: Tts, tmp_path: Path) -> None:
    record_many(tmp_path / "x.jsonl")
    assert len(page_of(tts, tmp_path / "x.jsonl").data) == 3
    assert len(page_of(tts, tmp_path / "x.jsonl", "--search", "1").data) == 1


def test_page_goes_where_it_is_told(tts: Tts, tmp_path: Path) -> None:
    record(tmp_path / "x.jsonl")
    out = tmp_path / "other.html"
    assert tts("trace", "html", str(tmp_path / "x.jsonl"), "-o", str(out)).out.strip() == str(out)
    assert out.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(ParameterError, match="cannot be written"):
        write_page(tmp_path / "x.jsonl", tmp_path / "no" / "such" / "folder.html")


def test_a_page_of_a_thousand_nodes_is_small_and_quick(tmp_path: Path) -> None:
    record(tmp_path / "x.jsonl", "particle_filter", parameters={"n": 400})
    [trace] = read_trace(tmp_path / "x.jsonl")
    assert len(TraceView(trace).rows) > 1000
    write_page(tmp_path / "x.jsonl", tmp_path / "x.html")
    assert (tmp_path / "x.html").stat().st_size < 2_000_000
    assert render(trace)


def test_bad_use_is_told_in_one_line(tts: Tts, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("garbage\n")
    ran = tts("trace", "show", str(tmp_path / "x.jsonl"))
    assert (ran.code, ran.out) == (2, "")
    assert "x.jsonl:1: not JSON" in ran.err
    assert tts("trace", "html", str(tmp_path / "x.jsonl")).code == 2
    assert tts("trace").code == 2
    assert tts("trace", "show", str(tmp_path / "none.jsonl")).code == 2
