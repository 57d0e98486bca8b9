from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from tts import registry, solve_sync
from tts.cli.request import parameters, unescape
from tts.cli.solve import report
from tts.cli.tally import Tally
from tts.cli.text import one_line, safe
from tts.testing import ScriptedGenerator, ScriptedVerifier, tree_script
from tts.trace import read_trace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Backends, Tts

SCRIPTED = ("--generator", "scripted", "--verifier", "scripted")


def test_answer_support_and_cost(tts: Tts, scripted: Backends) -> None:
    ran = tts("solve", "1 + 1?", *SCRIPTED, "--strategy", "beam", "--set", "width=2", "--seed", "7")
    facts = dict(line.split(None, 1) for line in ran.out.rpartition("\n\n")[2].splitlines())
    assert (ran.code, ran.err) == (0, "")
    assert "The answer is \\boxed{" in ran.out
    assert list(facts) == ["answer", "support", "cost", "ended"]
    assert "verifier calls" in facts["cost"] and "with an answer" in facts["support"]
    assert scripted.made[0].closed


def test_flags_reach_the_search(tts: Tts) -> None:
    search = ("--strategy", "best_of_n", "--set", "n=3", "--set", "selection=weighted", "--seed", "7")
    sampling = ("--temperature", "0.5", "--top-k", "4", "--max-tokens", "90", "--delimiter", r"\n", "--stop", "END")
    ran = tts("solve", "1 + 1?", *SCRIPTED, *search, *sampling, "--json")
    outcome = json.loads(ran.out)
    assert ran.out.count("\n") == 1
    assert outcome["seed"] == 7
    assert outcome["parameters"]["n"] == 3 and outcome["parameters"]["selection"] == "weighted"
    drawn = outcome["fingerprint"]["sampling"]
    assert (drawn["temperature"], drawn["top_k"], drawn["max_tokens"]) == (0.5, 4, 90)
    assert (drawn["delimiters"], drawn["stops"]) == (["\n"], ["END"])


def test_standard_input_is_the_same_problem(tts: Tts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("1 + 1?\n"))
    piped = json.loads(tts("solve", "-", *SCRIPTED, "--json").out)
    given = json.loads(tts("solve", "1 + 1?", *SCRIPTED, "--json").out)
    assert piped["candidates"] == given["candidates"]


def test_default_strategy_depends_on_the_verifier(tts: Tts) -> None:
    assert json.loads(tts("solve", "1?", *SCRIPTED, "--json").out)["strategy"] == "best_of_n"
    assert json.loads(tts("solve", "1?", *SCRIPTED[:2], "--json").out)["strategy"] == "self_consistency"


def test_no_answer_is_exit_code_1(tts: Tts) -> None:
    ran = tts("solve", "1?", "--generator", "silent")
    assert ran.code == 1
    assert "I do not know." in ran.out and "answer   none" in ran.out and "no answer" in ran.out


def test_budget_that_cuts_is_told(tts: Tts) -> None:
    ran = tts("solve", "1?", *SCRIPTED, "--strategy", "beam", "--budget", "3samples")
    assert "cut by the limit on samples" in ran.out


def test_json_of_an_engine_error_keeps_what_was_done(tts: Tts) -> None:
    ran = tts("solve", "1?", "--generator", "failing", "--verifier", "scripted", "--strategy", "beam", "--json")
    outcome = json.loads(ran.out)
    assert ran.code == 1
    assert outcome["ended"] == "error" and outcome["usage"]["generated"] > 0
    assert ran.err.startswith("tts: error: the engine is gone")


def test_trace_is_written_and_named(tts: Tts, tmp_path: Path) -> None:
    trace = tmp_path / "run.jsonl"
    ran = tts("solve", "1?", *SCRIPTED, "--trace", str(trace))
    assert f"trace    {trace}" in ran.out
    assert read_trace(trace)[0].outcome is not None


@pytest.mark.parametrize("flags", [(), ("--json",), ("--show-prompt",)], ids=["report", "json", "prompt"])
def test_what_a_model_says_is_data(tts: Tts, flags: tuple[str, ...]) -> None:
    ran = tts("solve", "1?\x1b[31m", "--generator", "nasty", *flags)
    assert ran.code == 0
    printed = ran.out.replace("\n", "")
    assert printed.isprintable()
    if not flags:
        assert "[bold]not bold[/bold]" in ran.out and "<script>alert(1)</script>" in ran.out and ":smile:" in ran.out
        assert "answer   [3, 4]" in ran.out


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a\x1b[31mb\x1b[0mc", "abc"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]8;;http://x\x1b\\b", "ab"),
        ("a\x1b]never ended", "anever ended"),
        ("a\x9b2Jb\x85\x7f", "ab"),
        ("a\x1bcb\x1b(0", "ab"),
        ("a\x1b", "a"),
        ("a\tb\nc\r\n", "a\tb\nc\n"),
        ("\u202eabc\u2066\ud800", "abc"),
        ("α ≤ β, [b]", "α ≤ β, [b]"),
    ],
)
def test_safe(text: str, shown: str) -> None:
    assert safe(text) == shown
    assert safe(shown) == shown


def test_one_line() -> None:
    assert one_line(" a \n\n\x1b[1m b\t") == "a b"


def test_values_are_json_or_text() -> None:
    settings = ["n=4", "flag=true", "name=weighted", "list=[1, 2]", "equal=a=b", "null=null"]
    assert list(parameters(settings).values()) == [4, True, "weighted", [1, 2], "a=b", None]


def test_unescape() -> None:
    assert unescape(r"\n\n") == "\n\n"
    assert unescape(r"\\n \boxed é") == r"\n \boxed é"


def test_file_over_environment_and_flag_over_file(tts: Tts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "backends.toml"
    file.write_text('[generator]\nuse = "beta:rest"\n')
    show = ("solve", "1?", "--show-prompt")
    monkeypatch.setenv("TTS_GENERATOR", "alpha")
    assert tts(*show).out.split()[1] == "alpha"
    assert tts(*show, "--backends", str(file)).out.split()[1] == "beta"
    assert tts(*show, "--backends", str(file), "--generator", "gamma").out.split()[1] == "gamma"


def test_verifier_by_environment(tts: Tts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS_VERIFIER", "scripted")
    assert tts("solve", "1?", "--generator", "scripted", "--strategy", "beam").code == 0


def test_options_of_a_backend(tts: Tts, tmp_path: Path, scripted: Backends) -> None:
    template, file = tmp_path / "chat.jinja", tmp_path / "backends.toml"
    template.write_text("{{ messages }}")
    file.write_text('[generator]\nuse = "scripted"\ntemplate = "from the file"\n')
    tts("solve", "1?", "--backends", str(file))
    tts("solve", "1?", "--backends", str(file), "--template", str(template))
    assert scripted.templates == ["from the file", "{{ messages }}"]


def test_show_prompt(tts: Tts, scripted: Backends, tmp_path: Path) -> None:
    ran = tts("solve", "1 + 1?", "--generator", "alpha", "--show-prompt", "--trace", str(tmp_path / "trace"))
    assert ran.code == 0
    assert "'Think.'" in ran.out and r"'\n\n'" in ran.out and "tokens a path" in ran.out
    assert ran.out.endswith("Think.\n1 + 1?\n\n")
    assert scripted.made[0].calls == [] and scripted.made[0].closed
    assert not (tmp_path / "trace").exists()


def test_system_prompt(tts: Tts) -> None:
    show = ("solve", "1?", "--generator", "alpha", "--show-prompt", "--system")
    assert tts(*show, r"Be brief.\nThink.").out.endswith("\n\nBe brief.\nThink.\n1?\n\n")
    assert tts(*show, "").out.endswith("\n\n1?\n\n")


@pytest.mark.parametrize("name", registry.names("strategy"))
def test_the_tally_agrees_with_the_outcome(name: str) -> None:
    tally = Tally()
    outcome = solve_sync(
        "1?",
        strategy=name,
        generator=ScriptedGenerator(tree_script()),
        verifier=ScriptedVerifier(),
        observers=[tally.observe],
    )
    counted = tally.usage()
    assert counted.generated == outcome.usage.generated
    assert counted.samples == outcome.usage.samples
    assert counted.verifier_calls == outcome.usage.verifier_calls
    assert str(outcome.answer) in report(outcome, None)
