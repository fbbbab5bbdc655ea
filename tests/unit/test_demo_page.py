"""The demo's page and its parts as text: what they say, and that nothing gets in that should not."""

from __future__ import annotations

import copy
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

page_of, plots, stories = (import_module(name) for name in ("demo.page", "demo.plots", "demo.stories"))
REPORT = json.loads((Path(__file__).parents[1] / "browser" / "demo_report.json").read_text())


@pytest.fixture
def report() -> dict[str, Any]:
    """A real run's report, to be changed."""
    return copy.deepcopy(REPORT)


def test_the_page_leads_with_the_two_numbers(report: dict[str, Any]) -> None:
    page = page_of.page(report)
    assert page.index('id="without"') < page.index('id="with"') < page.index("<h2>")
    assert f'<strong id="without">{report["headline"]["without"]:,}</strong>' in page


def test_the_page_is_of_one_piece(report: dict[str, Any]) -> None:
    assert not re.search(r"<script|<link(?! rel=\"icon\" href=\"data:)|https?://|@import|url\(", page_of.page(report))


def test_what_comes_from_the_log_is_escaped(report: dict[str, Any]) -> None:
    example = report["rules"][0]["example"]
    example["who"] = "<script>alert(1)</script>"
    example["changed"] = {"status": ["<b>", "&"]}
    page = page_of.page(report)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_run_without_kill_breach_or_learner_has_a_page(report: dict[str, Any]) -> None:
    report.update(takeover=None, learner=[], damage_by_second=[], damage_columns_by_second=[])
    report["headline"] = dict.fromkeys(report["headline"], 0)
    for rule in report["rules"]:
        rule.update(without=0, without_columns=0, example=None)
    page = page_of.page(report)
    assert "kill -9" not in page
    assert '<strong id="without">0</strong>' in page


def test_a_gate_that_let_something_through_is_shown_in_red(report: dict[str, Any]) -> None:
    report["rules"][0]["with"] = 3
    assert '<td class="n bad">3</td>' in page_of.page(report)


def test_a_story_is_told_in_its_order(report: dict[str, Any]) -> None:
    for rule in report["rules"]:
        told = stories.moments(rule["example"])
        assert [moment.at_s for moment in told] == sorted(moment.at_s for moment in told)
        assert told[-1].kind == "hit"


def test_a_flight_in_words() -> None:
    assert stories.flight_words("2013-02-08.UA1545.EWR") == "UA1545 from EWR, 8 February"


@pytest.mark.parametrize(("value", "top"), [(0, 4), (3, 3), (7, 8), (11, 12), (130, 160), (809, 1000), (1366, 1600)])
def test_an_axis_ends_at_a_round_value(value: float, top: float) -> None:
    assert plots.nice(value) == top


@pytest.mark.parametrize(("most", "about"), [(57, 6), (876, 6), (3, 4)])
def test_ticks_are_round_and_few(most: float, about: int) -> None:
    ticks = plots.steps(most, about)
    assert ticks[0] == 0
    assert ticks[-1] <= most
    assert 2 <= len(ticks) <= about + 1


def test_columns_stand_on_one_another() -> None:
    axes = plots.Axes(400, 200, 2, 4)
    drawn = plots.columns(axes, [plots.Column(0, [("a", 1), ("b", 0), ("c", 3)])], {"a": "x", "b": "y", "c": "z"})
    tops = [float(value) for value in re.findall(r' y="([\d.]+)"', drawn)]
    heights = [float(value) for value in re.findall(r'height="([\d.]+)"', drawn)]
    assert len(tops) == 2, "nothing is drawn of nothing"
    assert tops[1] + heights[1] == pytest.approx(tops[0], abs=0.2)
