"""Check types of the package as it installs: `backends` and `benchmarks` sit inside `tts`, which links lay out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / ".types"


def main() -> int:
    """Lay the links and run mypy over package and tests."""
    package = TREE / "tts"
    package.mkdir(parents=True, exist_ok=True)
    for link in (*package.iterdir(), TREE / "tests"):
        if link.is_symlink():
            link.unlink()
    for source in (*(ROOT / "tts").iterdir(), ROOT / "backends", ROOT / "benchmarks"):
        if source.name != "__pycache__":
            (package / source.name).symlink_to(source, target_is_directory=source.is_dir())
    (TREE / "tests").symlink_to(ROOT / "tests", target_is_directory=True)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "tts", "-p", "tests"]
    return subprocess.run(command, cwd=TREE, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
