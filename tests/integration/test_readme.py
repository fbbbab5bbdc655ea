"""The README's first ten minutes, as a newcomer types them: real commands, a real `placet dev`, in an empty folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.gates import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```(?:sh|console|text)?\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
[FIRST_TERMINAL] = [block for block in BLOCKS if re.search(r"^placet dev ", block, re.MULTILINE)]
SECOND_TERMINAL = "".join(block for block in BLOCKS if block.startswith("$ placet "))
MINUTES = 10


def without_chance(text: str) -> str:
    """What differs from run to run, as the README writes it."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time>", text)
    return re.sub(r"partition \d+ offset \d+", "partition <n> offset <n>", text)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """As in a terminal with the environment activated, and nothing set yet."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PLACET_", "KAFKA_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**bare, "PATH": path, "TMPDIR": str(tmp_path), "NO_COLOR": "1"}


@pytest.fixture
def second_terminal(tmp_path: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of the second terminal, while the first one's commands were typed and the last of them runs."""
    folder = tmp_path / "newcomer"
    folder.mkdir()
    *before, dev = [line for line in FIRST_TERMINAL.splitlines() if line.startswith("placet ")]
    for line in before:
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), line
    said = tmp_path / "dev.log"
    with said.open("wb") as out:
        process = subprocess.Popen(["bash", "-c", f"exec {dev}"], cwd=folder, env=environment, stdout=out, stderr=out)
    try:
        export = r"export KAFKA_BOOTSTRAP_SERVERS=(\S+)"
        wait_until(lambda: re.search(export, said.read_text()) or process.poll() is not None, 120, "Kafka runs")
        found = re.search(export, said.read_text())
        assert found is not None, said.read_text()
        yield {**environment, "KAFKA_BOOTSTRAP_SERVERS": found[1]}
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, said.read_text()
    finally:
        process.kill()


def test_the_first_ten_minutes_are_as_the_readme_tells_them(second_terminal: dict[str, str], tmp_path: Path) -> None:
    began = time.monotonic()
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", SECOND_TERMINAL, re.MULTILINE)
    kinds = [command.split()[1] for command, _ in steps]
    assert kinds == ["signal", "signal", "propose", "explain", "propose", "propose"]
    assert any("REFUSED  STALE" in expected for _, expected in steps)
    for command, expected in steps:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path / "newcomer", env=second_terminal, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (without_chance(done.stdout), done.stderr) == (expected, ""), command
    assert time.monotonic() - began < MINUTES * 60
