"""`ops/environment`: it makes an environment once, and leaves alone what is not its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/usr/bin/env bash
# Stands in for Python: `-m venv FOLDER` makes one with this very script in it, everything else succeeds.
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi
if [ "$1" = - ]; then cat >/dev/null; fi
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "ops").mkdir()
    for name in ("ops/environment", "ops/requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def sourced(clone: Path) -> tuple[str, str]:
    """What is first on the path after `. ops/environment`, and what it said."""
    environment = {**os.environ, "PYTHON": str(clone / "python")}
    command = ["bash", "-c", '. ops/environment; echo "${PATH%%:*}"']
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True)
    return str(Path(done.stdout.strip()).relative_to(clone)), done.stderr


def test_it_is_made_once(clone: Path) -> None:
    assert sourced(clone) == (".venv/bin", "making the environment in .venv ...\n")
    assert sourced(clone) == (".venv/bin", "")


def test_one_of_somebody_else_is_left_alone(clone: Path) -> None:
    (clone / ".venv" / "bin").mkdir(parents=True)
    assert sourced(clone) == (".venv-ops/bin", "making the environment in .venv-ops ...\n")
    assert sourced(clone) == (".venv-ops/bin", "")
    assert [path.name for path in (clone / ".venv").rglob("*")] == ["bin"]


def test_one_that_was_not_finished_is_made_anew(clone: Path) -> None:
    sourced(clone)
    (clone / ".venv" / "placet-stamp").write_text("")
    assert sourced(clone) == (".venv/bin", "making the environment in .venv ...\n")
