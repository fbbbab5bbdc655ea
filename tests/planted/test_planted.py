"""Each bug that is planted in the gate is found: a simulation that finds nothing proves nothing."""

from __future__ import annotations

import pytest

from tests.planted.__main__ import row
from tests.planted.bugs import BUGS, ROOT, SEEDS_MAX, PlantedBug, found_first, planted, run_on, why_it_does_not_apply
from tests.simulation.histories import KINDS

QUICK = {
    "dedup-on-wall-clock", "no-seek-after-abort", "revoked-tasks-go-on", "rules-change-in-batch",
    "stored-before-commit",
}  # fmt: skip
"""Found within some seeds each; between them they are of the core, the loop, the group, the rules and the store."""
EACH = [pytest.param(bug, id=bug.name) for bug in BUGS.values()]


@pytest.mark.parametrize("bug", EACH)
def test_its_file_applies_to_the_code_as_it_is(bug: PlantedBug) -> None:
    why = why_it_does_not_apply(bug, ROOT, "--check")
    assert not why, why


@pytest.mark.parametrize("bug", EACH)
def test_its_file_says_what_is_taken_away_where_it_shows_and_no_more_than_a_few_lines_do_it(bug: PlantedBug) -> None:
    changed = [
        line for line in bug.file.read_text().splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert len(changed) <= 24
    assert bug.words.count(". ") >= 1, "it says what is taken away, and what that would cost a user"
    assert bug.world in KINDS
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert row(bug) in page, "its row is missing in docs/reliability.md, see `python -m tests.planted`"


def test_the_page_has_no_row_of_a_bug_that_is_gone() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    table = page.partition("| bug |")[2].partition("\n\n")[0].splitlines()[2:]
    assert [line.split("`")[1] for line in table] == list(BUGS)


@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, id=bug.name, marks=() if bug.name in QUICK else pytest.mark.long) for bug in BUGS.values()],
)
def test_it_is_found(bug: PlantedBug) -> None:
    seed, wrong = found_first(bug)
    assert seed, f"not within {SEEDS_MAX:,} seeds; histories that crashed do not count: {wrong}"


def test_a_copy_without_its_bug_is_not_hunted_by_mistake() -> None:
    """Where the copy is not what is imported, all would seem well."""
    with planted(BUGS["no-seek-after-abort"]) as folder:
        (folder / "placet").rename(folder / "elsewhere")
        done = run_on(folder, "tests.planted.hunt", "small", "1")
    assert done.returncode == 1
    assert "not the copy was imported" in done.stderr
