from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.backends.fake_vllm import MODEL, Call, Response
from tests.backends.lying_servers import LyingVLLM
from tests.cli.conftest import NASTY
from tts import registry

if TYPE_CHECKING:
    from tests.cli.conftest import Tts


def test_a_server_that_can_do_everything(tts: Tts) -> None:
    with LyingVLLM() as server:
        ran = tts("doctor", server.url)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].endswith(f"model {MODEL}")
    assert "yes      seeds: 3 of 3 seeds gave the same tokens twice" in ran.out
    runs = next(line for line in lines if line.startswith("Runs: "))
    assert all(name in runs for name in registry.names("strategy"))
    assert "beam (with a verifier)" in runs and "self_consistency," not in runs
    assert "The examination sampled " in ran.out
    assert lines[-1].endswith(f"--strategy beam --generator vllm:{server.url} --verifier SPEC")


def test_a_server_that_cannot_continue_is_refused_what_needs_it(tts: Tts) -> None:
    with LyingVLLM("new turn", "no token details") as server:
        ran = tts("doctor", server.url)
    assert ran.code == 0
    assert "no       prefix continuation: 0 of 3" in ran.out
    assert "Does not run: beam: beam continues paths step by step" in ran.out
    runs = next(line for line in ran.out.splitlines() if line.startswith("Runs: "))
    assert "beam" not in runs and "best_of_n" in runs
    assert "  --enable-prompt-tokens-details" in ran.out.splitlines()


def test_json(tts: Tts) -> None:
    with LyingVLLM("new turn") as server:
        ran = tts("doctor", server.url, "--json")
    said = json.loads(ran.out)
    assert said["spec"] == f"vllm:{server.url}" and said["capabilities"]["continuation"] is False
    assert {"ability", "verdict", "evidence", "advice", "number"} == set(said["findings"][0])
    assert said["advice"]["strategies"]["self_consistency"] is False
    assert said["advice"]["strategies"]["best_of_n"] is True
    assert "cannot continue" in said["advice"]["refused"]["beam"]


def test_a_server_of_which_nothing_works(tts: Tts) -> None:
    with LyingVLLM() as server:
        server.misbehave = lambda call: Response(500, {"error": "broken"}) if "completions" in call.path else None
        ran = tts("doctor", server.url)
    assert ran.code == 1
    assert "Amiss: it answers neither" in ran.out and "tts solve" not in ran.out
    assert "Does not run: self_consistency" in ran.out


def test_a_reward_model(tts: Tts) -> None:
    with LyingVLLM(task="classify") as server:
        ran = tts("doctor", server.url)
    assert ran.code == 0
    assert f"a verifier, vllm:{server.url}" in ran.out
    assert ran.out.splitlines()[-1].endswith(f"--verifier vllm:{server.url} --generator SPEC")
    assert "--enable-prefix-caching" in ran.out


@pytest.mark.parametrize("terminal", [False, True])
def test_what_a_server_says_does_nothing_to_a_terminal(
    tts: Tts, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)

    def owned(call: Call) -> Response | None:
        models = {"data": [{"id": MODEL, "root": MODEL, "max_model_len": 128, "owned_by": NASTY}]}
        return Response(body=models) if call.path == "/v1/models" else None

    with LyingVLLM("made-up ids") as server:
        server.misbehave = owned
        server._say = lambda before, body, seed: ((NASTY * 9)[: body["max_tokens"]], False)  # type: ignore[method-assign]
        plain = tts("doctor", server.url)
        as_json = tts("doctor", server.url, "--json")
    for ran in (plain, as_json):
        said = re.sub(r"\x1b\[[0-9;]*m", "", ran.out) if terminal else ran.out  # the table has colours of its own
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\x00"} & set(said + ran.err)
    assert "token ids" in plain.out


def test_a_table_in_a_terminal(tts: Tts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with LyingVLLM(task="classify") as server:
        ran = tts("doctor", server.url)
    assert "what was seen" in ran.out and "[green]" not in ran.out


def test_a_key_and_a_model_go_into_a_file(tts: Tts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sesame")

    def guarded(call: Call) -> Response | None:
        return None if call.headers.get("authorization") == "Bearer sesame" else Response(401, {"error": "no key"})

    with LyingVLLM() as server:
        server.misbehave = guarded
        ran = tts("doctor", server.url, "--key", "MY_KEY", "--model", MODEL)
        keyless = tts("doctor", server.url)
    assert ran.code == 0 and "sesame" not in ran.out
    assert ran.out.splitlines()[-4:] == [
        "[generator]", f'use = "vllm:{server.url}"', f'model = "{MODEL}"', 'key = "MY_KEY"',
    ]  # fmt: skip
    assert "--backends FILE" in ran.out and "--generator" not in ran.out
    assert keyless.code == 1 and "status 401" in keyless.err


def test_bad_use_and_no_server(tts: Tts) -> None:
    assert tts("doctor").code == 2
    assert tts("doctor", "nonsense").code == 2
    assert tts("doctor", "http://127.0.0.1:9", "--seconds", "0").code == 2
    assert tts("doctor", "http://127.0.0.1:9", "--seconds", "nan").code == 2
    gone = tts("doctor", "http://127.0.0.1:9")
    assert gone.code == 1 and "cannot connect" in gone.err
    with LyingVLLM() as server:
        other = tts("doctor", server.url, "--model", "other")
    assert other.code == 1 and "does not serve 'other'" in other.err
