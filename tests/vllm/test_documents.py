"""What docs/vllm.md shows is run, against servers started with the flags that it names."""

from __future__ import annotations

import re
import runpy
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.test_documentation import BLOCK, ROOT, SMALLER
from tests.vllm.served import COMMON, GENERATES, SCORES_THE_END
from tts.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vllm.served import Server

DOCUMENT = (ROOT / "docs" / "vllm.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^\.venv/bin/tts (.*)$", re.MULTILINE)
TABLE = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
SERVER = re.compile(r"^VLLM_CPU_KVCACHE_SPACE=1 .*?-m vllm\.entrypoints\.openai\.api_server(.*?)^```", re.M | re.S)


@pytest.fixture
def document(policy: Server, prm: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The document with the addresses of these servers, in a folder with the file that it has written."""
    text = DOCUMENT.replace("http://localhost:8000", policy.url).replace("http://localhost:8001", prm.url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backends.toml").write_text(TABLE.findall(text)[0], encoding="utf-8")
    return text


def test_commands_run(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    commands = COMMAND.findall(document)
    assert {command.split()[0] for command in commands} == {"doctor", "solve", "bench"}
    for command in commands:
        for given, smaller in SMALLER.items():
            command = command.replace(given, smaller)
        assert main(shlex.split(command)) == 0, command
        assert capsys.readouterr().out, command


def test_python_runs(document: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "block.py"
    (block,) = BLOCK.findall(document)
    script.write_text(block, encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_servers_are_started_as_those_of_the_tests() -> None:
    policy, prm = (shlex.split(found.replace("\\\n", " ")) for found in SERVER.findall(DOCUMENT))
    own = {"--served-model-name", "countdown", "--uvicorn-log-level", "warning"}
    assert {*COMMON, *GENERATES} - own <= set(policy)
    assert {*COMMON, *SCORES_THE_END} - own <= set(prm)
