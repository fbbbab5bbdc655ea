"""What pages take from the code is what the code says; what they show as an answer is the answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ops.examples import decisions_of
from ops.reference import DOCS, PAGES, later
from placet.schemas.decision import REASONS, Reason
from placet.schemas.definition.field_types import TYPES
from placet.schemas.definition.jsonschema import json_schema

REFUSALS = (DOCS / "refusals.md").read_text()
SECTIONS = dict(re.findall(r"^### ([A-Z_]+)\n(.*?)(?=^##|\Z)", REFUSALS, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_the_code_says(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text()
    assert page == PAGES[name](page), "run `ops/docs --tables`"


def test_every_reason_has_its_example_in_the_order_of_the_ladder() -> None:
    assert list(SECTIONS) == [reason.name for reason in Reason]


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_an_example_gets_the_reason_that_it_stands_under(reason: Reason) -> None:
    found = [decision.reason for decision in decisions_of(SECTIONS[reason.name])]
    if reason in later():
        assert not found
        assert SECTIONS[reason.name].strip().startswith("Later:")
    else:
        assert found[0] is reason


def test_every_reason_leads_to_its_example() -> None:
    page = (DOCS / "reasons.md").read_text()
    assert re.findall(r"\[(\w+)\]\(refusals\.md#(\w+)\)", page) == [
        ("later" if reason in later() else "example", reason.name.lower()) for reason in REASONS
    ]


def test_the_reference_of_definitions_names_every_key_and_every_type() -> None:
    page = (DOCS / "definition.md").read_text()
    schema = json_schema()
    blocks = [schema, *(schema["$defs"][name] for name in ("SignalRule", "ProposalRule", "TransitionRule"))]
    keys = {key for block in [*blocks, schema["$defs"]["Field"]["anyOf"][1]] for key in block["properties"]}

    assert [key for key in sorted(keys | set(TYPES)) if f"`{key}`" not in page] == []


def test_every_key_of_a_definition_says_what_it_is_for() -> None:
    page = (DOCS / "definition.md").read_text()
    tables = re.findall(r"<!-- from the code: [a-z ]+ -->\n(.*?)<!-- end -->", page, re.DOTALL)
    rows = [row for block in tables for row in block.splitlines() if row.startswith("| `")]
    assert rows
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_page_of_mistakes_has_its_error() -> None:
    assert Path(DOCS / "definition.md").read_text().count("\nerror: ") >= 6
