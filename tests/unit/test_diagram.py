"""The diagram is drawn from the table that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from placet.definitions import load_definition
from placet.processors.diagram import GUARD_LENGTH_MAX, mermaid
from placet.processors.machine import compile_machine
from placet.schemas.definition.model import parse_definition

EXAMPLES = Path(__file__).parents[2] / "placet" / "schemas" / "examples"


def drawn(text: str) -> list[str]:
    return [line.strip() for line in mermaid(compile_machine(parse_definition(text))).splitlines()]


def test_the_refunds_diagram() -> None:
    machine = compile_machine(load_definition(EXAMPLES / "refund.yaml"))

    assert (
        mermaid(machine)
        == """\
stateDiagram-v2
    %% refund, version 1; [*] is absent, a proposal ends in ?
    direction LR
    [*] --> requested: refund_requested [payload.requested_minor #62; 0]
    requested --> requested: order_corrected
    approved --> approved: order_corrected
    requested --> [*]: refund_withdrawn
    rejected --> [*]: refund_withdrawn
    requested --> approved: approve? [payload.amount_minor #62; 0 && payload.amount_minor #60;= state.requested_minor]
    approved --> paid: pay?
    requested --> rejected: reject?
    paid --> [*]
    rejected --> [*]
"""
    )


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_edge_is_in_the_table_and_every_transition_is_an_edge(path: Path) -> None:
    machine = compile_machine(load_definition(path))
    lines = mermaid(machine).splitlines()
    edges = {tuple(part.strip() for part in line.split(":")[0].split("-->")) for line in lines if ": " in line}
    ends = {"absent": "[*]"}
    moves = {
        (ends.get(status, status), ends.get(transition.target or status, transition.target or status))
        for (_, _, status), transitions in machine.table.items()
        for transition in transitions
    }

    assert edges == moves


def test_an_input_that_stays_is_an_edge_to_the_same_status() -> None:
    rules = "{from: any}, looked: {transitions: [{from: b, guard: version > 3, to: b}, {from: b}]}"
    text = f"entity: a\nversion: 1\nstatuses: [b]\nsignals: {{made: {{from: absent, to: b}}, seen: {rules}}}"
    lines = drawn(f"{text}\nproposals: {{thought: {{from: b}}}}")

    assert [line for line in lines if "-->" in line] == [
        "[*] --> b: made",
        "b --> b: seen",
        "b --> b: looked [version #62; 3]",
        "b --> b: looked",
        "b --> b: thought?",
    ]


def test_what_is_never_tried_is_no_edge() -> None:
    rule = "{transitions: [{from: b}, {from: any, to: c}]}"
    lines = drawn(f"entity: a\nversion: 1\nstatuses: [b, c]\nsignals: {{made: {{from: absent, to: b}}, seen: {rule}}}")

    assert [line for line in lines if "-->" in line] == ["[*] --> b: made", "b --> b: seen", "c --> c: seen"]


@pytest.mark.parametrize("word", ["end", "state", "note", "class", "default", "style", "href"])
def test_a_status_named_like_a_word_of_mermaid_gets_an_alias(word: str) -> None:
    lines = drawn(
        f"entity: a\nversion: 1\nstatuses: [{word}]\nfinal: [{word}]\nsignals: {{s: {{from: absent, to: {word}}}}}"
    )

    assert lines[3:] == [f'state "{word}" as {word}_', f"[*] --> {word}_: s", f"{word}_ --> [*]"]


def test_guards_are_escaped_and_cut() -> None:
    guard = "status != 'a;b:c#d%' && status != \"" + "x" * 100 + '"'
    rule = f"{{from: absent, to: b, guard: {json.dumps(guard)}}}"
    lines = drawn(f"entity: a\nversion: 1\nstatuses: [b]\nsignals: {{s: {rule}}}")
    (line,) = [line for line in lines if "-->" in line]

    label = line.removeprefix("[*] --> b: s [").removesuffix("]")
    assert label.startswith("status != 'a#59;b#58;c#35;d#37;' && status != #34;xx")
    assert label.endswith("x…")
    for code in ("#59;", "#58;", "#35;", "#37;", "#34;"):
        label = label.replace(code, "_")
    assert len(label) == GUARD_LENGTH_MAX


def test_a_timer_is_an_edge_that_says_when() -> None:
    lines = drawn("""
entity: pet
version: 1
statuses: [ok, watching]
fields: {valid_to: timestamp | null}
signals: {seen: {from: absent, to: ok, set: {valid_to: decided_at}}}
timers:
  looks: {from: ok, after: 90s, to: watching}
  decays:
    at: state.valid_to
    transitions: [{from: watching, guard: version > 3, to: ok}, {from: [ok, watching], to: absent}]
""")

    assert [line for line in lines if "-->" in line] == [
        "[*] --> ok: seen",
        "ok --> watching: looks after 90s",
        "watching --> ok: decays at state.valid_to [version #62; 3]",
        "watching --> [*]: decays at state.valid_to",
        "ok --> [*]: decays at state.valid_to",
    ]
