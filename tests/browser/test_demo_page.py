"""The demo's page in a real browser: what a reader sees, on a desk and on a phone."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

REPORT = Path(__file__).with_name("demo_report.json")
CHROMIUM = [
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
    "--allow-file-access-from-files", "--virtual-time-budget=10000",
]  # fmt: skip
LOOK = """<!doctype html><meta charset="utf-8"><pre id="seen"></pre><iframe style="height: 900px; border: 0"></iframe>
<script>
const frame = document.querySelector("iframe"), seen = {};
const opened = () => new Promise(done => { frame.onload = done; frame.src = "page.html"; });
(async () => {
  for (const width of [1200, 390]) {
    frame.style.width = width + "px";
    await opened();
    const inside = frame.contentDocument, root = inside.documentElement, main = inside.querySelector("main");
    const shown = [...inside.querySelectorAll("svg")].filter(svg => svg.checkVisibility());
    seen[width] = {
      without: inside.getElementById("without").textContent, with: inside.getElementById("with").textContent,
      too_wide: root.scrollWidth > root.clientWidth, pictures: shown.length,
      small_print: Math.min(...shown.map(svg => 12 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)),
      asked: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name),
    };
  }
  document.getElementById("seen").textContent = JSON.stringify(seen);
})();
</script>"""


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """A real run's report."""
    found: dict[str, Any] = json.loads(REPORT.read_text())
    return found


@pytest.fixture(scope="module")
def seen(report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the browser tells of the page at both widths, and what it complained of."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(import_module("demo.page").page(report))
    (folder / "look.html").write_text(LOOK)
    done = subprocess.run(
        [*CHROMIUM, f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "look.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    [found] = re.findall(r'<pre id="seen">(.+?)</pre>', done.stdout, re.DOTALL)
    return json.loads(unescape(found)), done.stderr


Seen = tuple[dict[str, Any], str]


@pytest.mark.parametrize("width", ["1200", "390"])
def test_the_two_numbers_lead(seen: Seen, report: dict[str, Any], width: str) -> None:
    at = seen[0][width]
    assert at["without"] == f"{report['headline']['without']:,}"
    assert at["with"] == f"{report['headline']['with']:,}"


@pytest.mark.parametrize("width", ["1200", "390"])
def test_all_of_it_can_be_read_without_scrolling_sideways(seen: Seen, width: str) -> None:
    at = seen[0][width]
    assert not at["too_wide"]
    assert at["pictures"] == 4
    assert at["small_print"] > 10, "pixels"


def test_it_asks_nobody_and_complains_of_nothing(seen: Seen) -> None:
    by_width, complaints = seen
    assert [at["asked"] for at in by_width.values()] == [[], []]
    assert "CONSOLE" not in complaints
