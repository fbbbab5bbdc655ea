"""What the pages say is true: links lead somewhere, definitions in them compile."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from placet.processors.machine import compile_machine
from placet.schemas.definition import parse_definition

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_definition_in_the_readme_compiles() -> None:
    [text] = re.findall(r"```yaml\n(entity:.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    machine = compile_machine(parse_definition(text))
    assert machine.entity == "refund"


@pytest.mark.parametrize("opening", ["$ placet propose rf_1 approve", "async def agent("])
def test_what_the_readme_shows_stands_in_a_page_that_is_executed(opening: str) -> None:
    readme = (ROOT / "README.md").read_text()
    pages = (ROOT / "docs" / "shell.md").read_text() + (ROOT / "docs" / "client.md").read_text()
    [block] = [block for block in re.findall(r"```\w*\n(.*?)```", readme, re.DOTALL) if opening in block]
    assert all(line in pages for line in block.splitlines())
