"""What the documents show is run: every block of Python, every `tts` command, every example."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from tts.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ON_SERVERS = {ROOT / "docs" / "vllm.md"}
"""What these show is run by tests/vllm/test_documents.py."""
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^tts (?!demo)(.*?)(?:\s{3,}.*)?$", re.MULTILINE)
RUNNABLE = re.compile(r"^(import|from|\"\"\")", re.MULTILINE)
SMALLER = {"--problems 200": "--problems 3", "--problems 300": "--problems 3"}


def _scripts() -> dict[str, str]:
    """Each document's blocks as one script, since a later block may use what an earlier one has."""
    blocks = {
        path.name: [block for block in BLOCK.findall(path.read_text(encoding="utf-8")) if RUNNABLE.search(block)]
        for path in DOCUMENTS
        if path not in ON_SERVERS
    }
    return {name: "\n".join(found) for name, found in blocks.items() if found}


@pytest.mark.engine
@pytest.mark.parametrize("name", _scripts())
def test_python_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "blocks.py"
    script.write_text(_scripts()[name], encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.engine
def test_readme_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = COMMAND.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(commands) >= 6
    for command in commands:
        for given, smaller in SMALLER.items():
            command = command.replace(given, smaller)
        assert main(shlex.split(command)) == 0, command
        assert capsys.readouterr().out, command


@pytest.mark.engine
@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_run(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.engine
def test_demo_races_and_writes_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--problems", "8", "--budget", "400tok", "--no-browser"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("one_sample", "best_of_n", "particle_filter"))
    assert (tmp_path / "results/demo/tree.html").stat().st_size > 1000
