"""The README's first command, as a reader runs it: the script, small."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.gates import wait_until

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.kafka


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo; what it makes in temporary folders lands in ours."""
    return subprocess.Popen(
        [ROOT / "ops" / "demo", *arguments], env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "100"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder,
    )  # fmt: skip


def row(said: str, outcome: str) -> list[str]:
    """Return the cells of the first row of an outcome."""
    found = re.search(rf"^│ {outcome} .*$", said, re.MULTILINE)
    assert found, said
    return [cell.strip() for cell in found[0].strip("│").split("│")]


def test_a_small_demo_accepts_refuses_verifies_and_cleans_up(tmp_path: Path) -> None:
    running = demo(tmp_path, "--flights", "300")
    said, _ = running.communicate(timeout=240)
    assert running.returncode == 0, said
    _, _, facts, proposals, _ = row(said, "ACCEPTED")
    assert int(facts.replace(",", "")) >= 900, "scheduled, departed, arrived"
    assert int(proposals) > 0
    assert int(row(said, "REFUSED")[3]) > 0
    assert "No difference." in said
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    running = demo(tmp_path, "--all")
    wait_until(lambda: list(tmp_path.glob("placet-demo-*/state/*/demo")), 120, "a gate opens its stores")
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 130, said
    wait_until(lambda: not list(tmp_path.iterdir()), 10, "all temporary folders are gone")
