"""The README's first command, as a reader runs it: the script, small."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gates import wait_until

ROOT = Path(__file__).parents[2]
STORM = ("--first-day", "02-08", "--flights", "500", "--day-s", "20")
"""The day of the blizzard: half of the flights are cancelled while people think about them. It is longer than the
time for which the advisors stand still: else hardly anything is proposed."""

pytestmark = pytest.mark.kafka


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo in a folder; what it makes in temporary folders lands there too."""
    return subprocess.Popen(
        [ROOT / "ops" / "demo", *arguments], env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "100"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip


def processes_of(folder: Path) -> list[str]:
    """What still runs for a demo of this folder."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in found.splitlines() if str(folder) in line]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """One small demo: its folder, its report, what it said meanwhile."""
    folder = tmp_path_factory.mktemp("demo")
    running = demo(folder, *STORM, "--output", "json")
    printed, said = running.communicate(timeout=280)
    assert running.returncode == 0, said
    return folder, json.loads(printed), said


Ran = tuple[Path, dict[str, Any], str]


def test_without_a_gate_state_is_broken_and_with_it_it_is_not(run: Ran) -> None:
    _, report, _ = run
    assert report["headline"]["without"] > 0
    assert report["headline"]["with"] == 0
    assert all(rule["with"] == 0 for rule in report["rules"])
    assert sum(rule["without"] > 0 for rule in report["rules"]) >= 3, "several rules are broken"
    told = next(rule for rule in report["rules"] if rule["without"])["example"]
    assert told["entity"].startswith("2013-02-")
    assert told["read"]["at_s"] < told["at_s"]


def test_refusals_of_several_kinds_arise_by_themselves(run: Ran) -> None:
    _, report, _ = run
    reasons = {row["reason"] for row in report["outcomes"] if row["proposals"]}
    assert "" in reasons, "some are accepted"
    assert len(reasons) >= 4, reasons
    facts = [row for row in report["outcomes"] if row["facts"]]
    assert [row["outcome"] for row in facts] == ["ACCEPTED"], "no fact is refused"
    assert all(advisor["proposed"] for advisor in report["advisors"])


def test_a_gate_is_killed_and_the_other_takes_over(run: Ran) -> None:
    _, report, said = run
    assert "kill -9 gate-1" in said
    assert "gate-0 has taken over" in said
    assert "placet top -e" in said.replace("\n", " ")
    assert 0 < report["takeover"]["took_s"] < 60
    assert len(report["takeover"]["partitions"]) == 2


def test_everything_decided_is_verified(run: Ran) -> None:
    _, report, _ = run
    assert report["verify"]["differences"] == 0
    assert sum(task["decisions"] for task in report["verify"]["tasks"]) == report["decided"]
    sent = report["inputs"]["facts"] + report["inputs"]["proposals"]
    assert report["decided"] == sent + report["fallback"]["timers"]


def test_where_no_ai_answers_a_rule_acts(run: Ran) -> None:
    _, report, said = run
    assert "Both advisors stand still" in said
    assert "The advisors go on" in said
    assert report["fallback"]["told_meanwhile"] > 0
    assert report["fallback"]["told"] >= report["fallback"]["told_meanwhile"]


def test_the_page_is_all_that_is_left(run: Ran) -> None:
    folder, report, _ = run
    assert [file.name for file in folder.iterdir()] == ["placet-demo.html"]
    page = (folder / "placet-demo.html").read_text()
    assert f'<strong id="without">{report["headline"]["without"]:,}</strong>' in page
    assert '<strong id="with">0</strong>' in page
    assert not re.search(r"<script|https?://|@import|url\(", page), "it asks nobody"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_demo_that_is_ended_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    running = demo(tmp_path, "--all")
    diaries = "placet-demo-*/learner.diary"
    wait_until(lambda: running.poll() is not None or list(tmp_path.glob(diaries)), 150, "everything runs")
    assert running.poll() is None, running.communicate()
    running.send_signal(number)
    said = "".join(running.communicate(timeout=60))
    assert running.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[number], said
    wait_until(lambda: not processes_of(tmp_path), 30, "all processes are gone")
    wait_until(lambda: not list(tmp_path.iterdir()), 10, "all temporary folders are gone")


@pytest.mark.parametrize("wrong", [("--flights", "0"), ("--report", "nowhere/page.html"), ("--first-day", "13-01")])
def test_wrong_usage_is_told_at_once(tmp_path: Path, wrong: tuple[str, str]) -> None:
    running = demo(tmp_path, *wrong)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 2, said
    assert wrong[0] in said
