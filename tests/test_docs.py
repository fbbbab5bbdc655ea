"""What the pages say is true: links lead somewhere, definitions in them compile, the site builds and stands alone."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from ops.diagrams import FOLDER, blocks_of, pictures_of
from placet.processors.machine import compile_machine
from placet.schemas.definition.model import parse_definition

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FROM_ELSEWHERE = re.compile(
    r"<(?:script|link|img|iframe|source|video|object)\b[^>]*?(?:src|href|data)=\"(?:https?:)?//[^\"]*\""
    r"|@import\s+[^;]*//[^;]*;|url\(\s*['\"]?(?:https?:)?//[^)]*\)|\bimport\b[^;\n]*['\"]https?://"
)
"""What a browser would fetch from another host. Plain links (`<a href>`) are no requests."""


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert not re.search(r"\s", target), f"a blank in {target!r}"
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_definitions_in_a_page_compile(page: Path) -> None:
    for text in re.findall(r"```yaml\n(entity:.*?)```", page.read_text(), re.DOTALL):
        compile_machine(parse_definition(text))


def test_the_definition_in_the_readme_compiles() -> None:
    [text] = re.findall(r"```yaml\n(entity:.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    machine = compile_machine(parse_definition(text))
    assert machine.entity == "refund"


def test_the_agent_in_the_readme_stands_in_a_page_that_is_executed() -> None:
    readme, page = (ROOT / "README.md").read_text(), (ROOT / "docs" / "client.md").read_text()
    [block] = [block for block in re.findall(r"```\w*\n(.*?)```", readme, re.DOTALL) if "async def agent(" in block]
    assert all(line in page for line in block.splitlines())


def test_the_tests_that_a_page_shows_pass() -> None:
    page = (ROOT / "docs" / "for-applications.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/for-applications.md", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for shown in tests:
        shown()


def test_the_statement_for_a_table_takes_rows_in_any_order() -> None:
    [statement] = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "for-consumers.md").read_text(), re.DOTALL)
    database = sqlite3.connect(":memory:")
    database.execute(
        "CREATE TABLE refunds (id TEXT PRIMARY KEY, incarnation INT, version INT, status TEXT, refunded_minor INT)"
    )
    rows = [
        (5, 2, "approved"),
        (5, 1, "requested"),
        (5, 3, "absent"),
        (5, 2, "approved"),
        (9, 1, "requested"),
        (5, 3, "absent"),
    ]
    kept = []
    for incarnation, version, status in rows:
        row = {"placet_entity_id": "rf_1", "placet_incarnation": incarnation, "placet_version": version}
        database.execute(statement, {**row, "placet_status": status, "refunded_minor": 0})
        kept += database.execute("SELECT incarnation, version FROM refunds").fetchall()
    assert kept == [(5, 2), (5, 2), (5, 3), (5, 3), (9, 1), (9, 1)]


# -- the site ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `ops/docs` does; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", "docs", "-W", "-n", "--keep-going"]
    done = subprocess.run(  # noqa: PLW1510  its messages are the assertion
        [*command, "-d", str(folder / "doctrees"), ".", str(folder / "html")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_the_site_has_every_page(site: Path) -> None:
    missing = [page for page in PAGES if not (site / page.relative_to(ROOT).with_suffix(".html")).exists()]
    assert not missing
    assert "docs/index.html" in (site / "index.html").read_text()


def test_the_site_asks_no_other_host(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in {".html", ".css", ".js", ".svg"}]
    assert len(files) > len(PAGES)
    found = {str(path.relative_to(site)): FROM_ELSEWHERE.findall(path.read_text(errors="replace")) for path in files}
    assert {name: requests for name, requests in found.items() if requests} == {}


LOOK = """<!doctype html><meta charset="utf-8"><pre id="seen"></pre>
<iframe style="width: WIDTHpx; height: 800px"></iframe>
<script>
const frame = document.querySelector("iframe"), seen = {};
const opened = page => new Promise(done => { frame.onload = done; frame.src = page; });
(async () => {
  for (const page of PAGES) {
    await opened(page);
    const root = frame.contentDocument.documentElement;
    const images = [...root.querySelectorAll("img")].filter(image => image.checkVisibility());
    const asked = frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name);
    seen[page] = {
      too_wide: root.scrollWidth > root.clientWidth ? root.scrollWidth : 0,
      cut: [...root.querySelectorAll("article pre")]
        .filter(drawn => /[─━]{3}/.test(drawn.innerText) && drawn.scrollWidth > drawn.clientWidth)
        .map(drawn => drawn.innerText.slice(0, 60)),
      broken: images.filter(image => image.complete && !image.naturalWidth).map(image => image.src),
      elsewhere: asked.filter(name => !name.startsWith("file:") && !name.startsWith("data:")),
    };
  }
  document.getElementById("seen").textContent = JSON.stringify(seen);
})();
</script>"""
FINE: dict[str, Any] = {"too_wide": 0, "cut": [], "broken": [], "elsewhere": []}


def looked_at(site: Path, tmp_path: Path, width: int) -> dict[str, dict[str, Any]]:
    """What a browser sees of each page, in a window of so many pixels."""
    pages = [str(path.relative_to(site)) for path in sorted(site.rglob("*.html")) if path.name != "index.html"]
    look = LOOK.replace("PAGES", json.dumps(["docs/index.html", *pages])).replace("WIDTH", str(width))
    (site / "look.html").write_text(look)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=60000", "--dump-dom"]
    done = subprocess.run(
        [*command, (site / "look.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    [found] = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    (site / "look.html").unlink()
    seen: dict[str, dict[str, Any]] = json.loads(unescape(found))
    assert len(seen) > len(PAGES)
    return seen


@pytest.mark.browser
def test_a_browser_shows_every_page_on_a_phone_whole_and_asks_nobody(site: Path, tmp_path: Path) -> None:
    """Text, that is: a drawing keeps its lines, and is moved sideways."""
    seen = looked_at(site, tmp_path, 390)
    assert {page: what for page, what in seen.items() if what | {"cut": []} != FINE} == {}


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 1440, 1600])
def test_a_browser_shows_drawings_and_tables_of_a_terminal_whole_on_a_laptop(
    site: Path, tmp_path: Path, width: int
) -> None:
    seen = looked_at(site, tmp_path, width)
    assert {page: what for page, what in seen.items() if what != FINE} == {}


def test_whoever_is_new_finds_the_first_ten_minutes_first(site: Path) -> None:
    [first, *_] = re.findall(r'<li class="toctree-l1"><a [^>]*>([^<]*)</a>', (site / "docs" / "index.html").read_text())
    assert first == "The first ten minutes"


def test_a_diagram_has_its_picture_and_a_picture_its_diagram() -> None:
    pages = [page.read_text() for page in PAGES]
    shown = "".join(pictures_of(page) for page in pages if blocks_of(page))
    assert [path.name for path in FOLDER.glob("*.svg") if path.name not in shown] == []
