"""What a gate tells: metrics by the table, health by the loop and its tasks, logs as JSON without secrets."""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import threading
import urllib.request
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from placet.schemas.decision import Outcome, Reason
from placet.schemas.definition.model import parse_definition
from placet.schemas.errors import SettingsError
from placet.schemas.messages import Kind
from placet.streams.host import LocalHost
from placet.streams.settings import load_settings
from placet.streams.telemetry.build import kind_of_build
from placet.streams.telemetry.endpoint import Endpoint
from placet.streams.telemetry.log import client_logger, configure_logs, get_logger, log_thread_errors
from placet.streams.telemetry.metrics import METRICS, Metrics
from placet.streams.topology import TaskId
from tests.staged import StagedHost

ROOT = Path(__file__).parents[2]
LAMP = parse_definition("""
entity: lamp
version: 3
statuses: [dark]
signals: {made: {from: absent, to: dark}}
""")


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def log() -> io.StringIO:
    """The log of the test, as JSON."""
    stream = io.StringIO()
    configure_logs("info", stream)
    return stream


def lines(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def metrics(clock: Clock | None = None) -> Metrics:
    return Metrics(StagedHost(monotonic_s=clock or Clock()), load_settings({"app": "a"}), [LAMP])


def get(endpoint: Endpoint, path: str, accept: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{endpoint.port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def value(of: Metrics, name: str, **labels: str) -> float | None:
    return of.registry.get_sample_value(name, labels)


# -- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_prometheus_practice(metric: object) -> None:
    name, kind, labels, unit, text = metric
    assert re.fullmatch(r"placet_[a-z]+(_[a-z]+)*", name)
    assert (kind == "counter") == name.endswith("_total")
    assert (kind == "histogram") == (name.endswith("_seconds") and not name.endswith("_timestamp_seconds"))
    assert (unit == "") == name.endswith(("_info", "_phase"))
    assert text.endswith(".")
    assert not {"entity_id", "key", "id"} & set(labels), "an id has no bound"


def test_the_pages_name_only_series_that_a_gate_can_have() -> None:
    told = metrics()
    told.tasks({"lamp-0": "stopped"})
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    code = "".join(module.read_text() for module in (ROOT / "placet" / "streams").rglob("*.py"))
    found = re.findall(r'(placet_[a-z_]+)\{([a-z]+)="([a-z_]+)"\}', pages)
    assert {label for _, label, _ in found} == {"phase", "result", "event"}
    for name, label, is_in in found:
        if label == "event":  # its series begins when it happens
            assert f'"{is_in.replace("_", " ")}"' in code, is_in
        else:
            assert value(told, name, **{label: is_in}) is not None, (name, is_in)


def test_everything_in_the_table_is_exported_with_its_kind_and_nothing_else() -> None:
    endpoint = Endpoint(LocalHost(), metrics(), "127.0.0.1", 0)
    _, text = get(endpoint, "/metrics")
    endpoint.close()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    ours = {name: kind for name, kind in kinds.items() if not name.startswith("process_")}
    assert ours == {metric.name: metric.kind for metric in METRICS}
    assert "process_resident_memory_bytes" in kinds


def test_two_gates_in_one_process_do_not_share_numbers() -> None:
    one, other = metrics(), metrics()
    one.transaction("committed", 0.1)
    assert value(one, "placet_transactions_total", result="committed") == 1
    assert value(other, "placet_transactions_total", result="committed") == 0


# -- what the loop tells ---------------------------------------------------------------------------------------------


def test_decisions_are_counted_as_they_are_spelled_in_decisions() -> None:
    told = metrics()
    told.decided(
        "lamp",
        0,
        {
            (Kind.PROPOSAL, Outcome.ACCEPTED, Reason.NONE): 5,
            (Kind.PROPOSAL, Outcome.REFUSED, Reason.STALE): 2,
            (Kind.SIGNAL, Outcome.REFUSED, Reason.UNDECODABLE): 1,
        },
        0.2,
    )
    name = "placet_decisions_total"
    assert value(told, name, entity="lamp", kind="PROPOSAL", outcome="ACCEPTED", reason="NONE") == 5
    assert value(told, name, entity="lamp", kind="PROPOSAL", outcome="REFUSED", reason="STALE") == 2
    assert value(told, "placet_decision_latency_seconds_sum", entity="lamp") == pytest.approx(0.2)


def test_what_was_processed_is_counted_by_partition_of_the_input_topics() -> None:
    told = metrics()
    accepted, stale = (Outcome.ACCEPTED, Reason.NONE), (Outcome.REFUSED, Reason.STALE)
    told.decided(
        "lamp", 1, {(Kind.SIGNAL, *accepted): 5, (Kind.PROPOSAL, *accepted): 2, (Kind.PROPOSAL, *stale): 1}, 0.1
    )
    name = "placet_records_processed_total"
    assert value(told, name, topic="a.lamp.signals", partition="1") == 5
    assert value(told, name, topic="a.lamp.proposals", partition="1") == 3


def test_a_timer_is_a_decision_that_came_from_no_topic() -> None:
    told = metrics()
    told.decided("lamp", 1, {(Kind.TIMER, Outcome.ACCEPTED, Reason.NONE): 2}, 0.1, [400, 70_000])
    labels = {"entity": "lamp", "kind": "TIMER", "outcome": "ACCEPTED", "reason": "NONE"}
    assert value(told, "placet_decisions_total", **labels) == 2
    for topic in ("a.lamp.signals", "a.lamp.proposals"):
        assert value(told, "placet_records_processed_total", topic=topic, partition="1") is None
    assert value(told, "placet_decision_latency_seconds_count", entity="lamp") is None, "nobody waited for it"
    assert value(told, "placet_timer_overdue_seconds_count", entity="lamp") == 2
    assert value(told, "placet_timer_overdue_seconds_sum", entity="lamp") == pytest.approx(70.4)
    assert value(told, "placet_timer_overdue_seconds_bucket", entity="lamp", le="0.5") == 1


def test_a_timer_that_is_refused_is_no_refused_fact() -> None:
    told = metrics()
    told.decided("lamp", 1, {(Kind.TIMER, Outcome.REFUSED, Reason.GUARD_FAILED): 1}, 0.1, [0])
    assert value(told, "placet_refused_facts_total", entity="lamp", reason="GUARD_FAILED") == 0


def test_the_next_timer_of_each_task_is_told_while_there_is_one() -> None:
    told = metrics()
    name = "placet_timer_next_due_timestamp_seconds"
    told.next_due({TaskId("lamp", 0): 1_795_521_600_500, TaskId("lamp", 1): 1_795_521_700_000})
    assert value(told, name, entity="lamp", partition="0") == 1_795_521_600.5
    told.next_due({TaskId("lamp", 1): 1_795_521_700_000})
    assert value(told, name, entity="lamp", partition="0") is None
    assert value(told, name, entity="lamp", partition="1") == 1_795_521_700


def test_what_an_alert_asks_for_is_there_before_it_happens() -> None:
    told = metrics()
    assert value(told, "placet_refused_facts_total", entity="lamp", reason="GUARD_FAILED") == 0
    assert value(told, "placet_transactions_total", result="aborted") == 0


def test_a_refused_fact_is_counted_apart_and_a_refused_proposal_is_not() -> None:
    told = metrics()
    counts = {
        (Kind.SIGNAL, Outcome.REFUSED, Reason.ILLEGAL_TRANSITION): 3,
        (Kind.SIGNAL, Outcome.DUPLICATE, Reason.REPEATED): 4,
        (Kind.SIGNAL, Outcome.REFUSED, Reason.SUPERSEDED): 6,
        (Kind.SIGNAL, Outcome.REFUSED, Reason.IGNORED): 7,
        (Kind.PROPOSAL, Outcome.REFUSED, Reason.ILLEGAL_TRANSITION): 5,
    }
    told.decided("lamp", 0, counts, 0.1)
    assert value(told, "placet_refused_facts_total", entity="lamp", reason="ILLEGAL_TRANSITION") == 3
    assert value(told, "placet_refused_facts_total", entity="lamp", reason="REPEATED") is None, "a repeat is no refusal"
    for asked_for in ("SUPERSEDED", "IGNORED"):
        by_design = value(told, "placet_refused_facts_total", entity="lamp", reason=asked_for)
        assert by_design is None, "the definition asks for it"
    decided = value(
        told, "placet_decisions_total", entity="lamp", kind="SIGNAL", outcome="REFUSED", reason="IGNORED"
    )  # fmt: skip
    assert decided == 7


@pytest.mark.parametrize("reason", [Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA, Reason.WRONG_PARTITION])
def test_what_did_not_decode_is_counted_as_a_dead_letter(reason: Reason) -> None:
    told = metrics()
    told.decided("lamp", 0, {(Kind.PROPOSAL, Outcome.REFUSED, reason): 2}, 0.1)
    letters = 2 if reason is not Reason.WRONG_PARTITION else None
    assert value(told, "placet_dead_letters_total", entity="lamp", reason=reason.name) == letters


def test_a_batch_of_housekeeping_has_no_latency() -> None:
    told = metrics()
    told.decided("lamp", 0, {}, 0.0)
    assert value(told, "placet_decision_latency_seconds_count", entity="lamp") is None


def test_only_committed_transactions_have_a_duration() -> None:
    told = metrics()
    told.transaction("committed", 0.5)
    told.transaction("aborted", 0.0)
    assert value(told, "placet_transactions_total", result="aborted") == 1
    assert value(told, "placet_transaction_duration_seconds_count") == 1


def test_a_restore_shows_its_progress_and_its_series_ends_with_it(log: io.StringIO) -> None:
    told = metrics()
    told.tasks({"lamp-0": "restoring", "lamp-1": "restoring"})
    told.restoring({"lamp-0": (0, None), "lamp-1": (20, 5)})
    assert value(told, "placet_restoring_records", entity="lamp", partition="1") == 20
    assert value(told, "placet_restore_remaining_records", entity="lamp", partition="1") == 5
    assert value(told, "placet_restore_remaining_records", entity="lamp", partition="0") is None, "nobody knows yet"
    told.restored("lamp-1", 25, 1.5, "")
    told.tasks({"lamp-0": "restoring", "lamp-1": "running"})
    told.restoring({"lamp-0": (15, 15)})
    assert value(told, "placet_restoring_records", entity="lamp", partition="1") is None
    assert value(told, "placet_restore_remaining_records", entity="lamp", partition="1") is None
    told.restored("lamp-0", 30, 2.0, "the group's position was lost")
    told.tasks({"lamp-0": "running", "lamp-1": "running"})
    assert value(told, "placet_restoring_records", entity="lamp", partition="0") is None
    assert value(told, "placet_restore_remaining_records", entity="lamp", partition="0") is None
    assert value(told, "placet_restored_records_total", entity="lamp") == 55
    assert value(told, "placet_restore_warnings_total", entity="lamp") == 1
    assert [line["level"] for line in lines(log) if line["event"].startswith("restored")] == ["info", "warning"]


def test_restores_that_stand_still_are_named_once_until_one_moves(log: io.StringIO) -> None:
    clock = Clock()
    gate = metrics(clock)
    gate.tasks({"lamp-0": "restoring", "lamp-1": "restoring"})

    def said_after(seconds: float, lamp_0: tuple[int, int | None], lamp_1: tuple[int, int | None]) -> int:
        clock.now_s += seconds
        gate.restoring({"lamp-0": lamp_0, "lamp-1": lamp_1}, {"lamp-0": "", "lamp-1": "a transaction has not ended"})
        return sum(line["event"] == "restore stands still" for line in lines(log))

    assert said_after(0, (0, None), (10, 90)) == 0
    assert said_after(29, (0, None), (20, 80)) == 0
    assert said_after(29, (0, None), (30, 70)) == 0, "the other one waits for its turn"
    assert said_after(29, (0, None), (30, 70)) == 0
    assert said_after(2, (0, None), (30, 70)) == 1
    assert said_after(100, (0, None), (30, 70)) == 1
    assert said_after(1, (5, 5), (30, 70)) == 1
    assert said_after(31, (5, 5), (30, 70)) == 2
    assert lines(log)[-1]["tasks"] == ["lamp-0", "lamp-1"]
    assert lines(log)[-1]["why"] == "nothing new in 30 s: a transaction has not ended"
    gate.tasks({"lamp-0": "running", "lamp-1": "running"})
    gate.tasks({"lamp-0": "restoring", "lamp-1": "restoring"})
    assert said_after(100, (5, 5), (30, 70)) == 2, "other restores"


def test_tasks_are_counted_by_phase_and_logged_when_they_change(log: io.StringIO) -> None:
    told = metrics()
    told.tasks({"lamp-0": "running", "lamp-1": "stopped"})
    told.tasks({"lamp-0": "running", "lamp-1": "stopped"})
    phases = {phase: value(told, "placet_tasks", phase=phase) for phase in ("running", "restoring", "stopped")}
    assert phases == {"running": 1, "restoring": 0, "stopped": 1}
    (line,) = [line for line in lines(log) if line["event"] == "tasks"]
    assert (line["running"], line["stopped"]) == (["lamp-0"], ["lamp-1"])


def test_a_gate_that_can_run_nothing_of_what_is_in_force_is_not_ready_and_says_why() -> None:
    told = metrics()
    endpoint = Endpoint(LocalHost(), told, "127.0.0.1", 0)
    try:
        told.looped()
        told.can_not_run({"lamp": "version 2 is in force"}, outside=False)
        assert get(endpoint, "/readyz")[0] == 200, "it decides the others"
        told.can_not_run({"lamp": "version 2 is in force"}, outside=True)
        code, text = get(endpoint, "/readyz")
        assert (code, json.loads(text)["unrunnable"]) == (503, {"lamp": "version 2 is in force"})
        assert get(endpoint, "/healthz")[0] == 200
        assert value(told, "placet_unrunnable_definitions", entity="lamp") == 1
        told.can_not_run({}, outside=False)
        assert get(endpoint, "/readyz")[0] == 200
        assert value(told, "placet_unrunnable_definitions", entity="lamp") is None
    finally:
        endpoint.close()


def test_each_task_is_in_one_phase_and_goes_with_its_gate() -> None:
    told = metrics()
    told.partitions("lamp", 4)
    told.tasks({"lamp-0": "running", "lamp-1": "restoring"})
    told.tasks({"lamp-1": "running"})
    in_phase = {
        phase: value(told, "placet_task_phase", entity="lamp", partition="1", phase=phase)
        for phase in ("running", "restoring", "stopped")
    }
    assert in_phase == {"running": 1, "restoring": 0, "stopped": 0}
    assert value(told, "placet_task_phase", entity="lamp", partition="0", phase="running") is None
    assert value(told, "placet_partitions", entity="lamp") == 4


def test_the_lag_of_partitions_that_went_away_goes_away() -> None:
    told = metrics()
    told.lag({("a.lamp.signals", 0): 7, ("a.lamp.signals", 1): 8})
    told.lag({("a.lamp.signals", 1): 0})
    assert value(told, "placet_lag_records", topic="a.lamp.signals", partition="0") is None
    assert value(told, "placet_lag_records", topic="a.lamp.signals", partition="1") == 0


def test_events_are_counted_and_logged_with_their_details(log: io.StringIO) -> None:
    told = metrics()
    told.event("task stopped", task="lamp-0", why="the chain is broken")
    assert value(told, "placet_events_total", event="task_stopped") == 1
    assert lines(log)[-1] | {"timestamp": ""} == {
        "component": "gate",
        "event": "task stopped",
        "level": "warning",
        "task": "lamp-0",
        "timestamp": "",
        "why": "the chain is broken",
    }


def test_what_runs_is_told() -> None:
    told = metrics()
    assert value(told, "placet_definition_info", entity="lamp", version="3", digest=LAMP.digest.hex()) == 1
    (build,) = [family for family in told.registry.collect() if family.name == "placet_build_info"]
    assert build.samples[0].labels["app"] == "a"
    assert build.samples[0].labels["build"] == kind_of_build()


# -- health ----------------------------------------------------------------------------------------------------------


def test_a_gate_is_ready_when_it_looped_and_all_its_tasks_run() -> None:
    told = metrics()
    endpoint = Endpoint(LocalHost(), told, "127.0.0.1", 0)
    assert get(endpoint, "/readyz")[0] == 503, "it did not even loop"
    told.looped()
    assert get(endpoint, "/readyz")[0] == 200, "without tasks it stands by"
    told.tasks({"lamp-0": "running", "lamp-1": "restoring"})
    status, body = get(endpoint, "/readyz")
    assert (status, json.loads(body)["tasks"]) == (503, {"lamp-0": "running", "lamp-1": "restoring"})
    told.tasks({"lamp-0": "running", "lamp-1": "running"})
    assert get(endpoint, "/readyz")[0] == 200
    endpoint.close()


def test_a_task_that_waits_for_a_schema_is_told_with_its_id_and_since_when() -> None:
    told = metrics()
    endpoint = Endpoint(LocalHost(), told, "127.0.0.1", 0)
    told.looped()
    told.tasks({"lamp-0": "waiting", "lamp-1": "running"})
    told.schema_waits({"lamp-0": ("id 17", 1_767_225_600_000, "http://registry: 500")})
    status, body = get(endpoint, "/readyz")
    assert (status, json.loads(body)["waits"]) == (
        503, {"lamp-0": {"schema": "id 17", "since": "2026-01-01T00:00:00+00:00", "why": "http://registry: 500"}}
    )  # fmt: skip
    labels = {"entity": "lamp", "partition": "0", "schema": "id 17"}
    assert value(told, "placet_schema_wait_since_timestamp_seconds", **labels) == 1_767_225_600
    told.tasks({"lamp-0": "running", "lamp-1": "running"})
    told.schema_waits({})
    status, body = get(endpoint, "/readyz")
    assert (status, json.loads(body)["waits"]) == (200, {})
    assert value(told, "placet_schema_wait_since_timestamp_seconds", **labels) is None
    endpoint.close()


def test_a_gate_whose_loop_hangs_is_not_healthy() -> None:
    clock = Clock()
    told = metrics(clock)
    endpoint = Endpoint(LocalHost(), told, "127.0.0.1", 0, alive_within_s=60)
    clock.now_s += 59
    assert get(endpoint, "/healthz")[0] == 200
    clock.now_s += 2
    status, body = get(endpoint, "/healthz")
    assert (status, json.loads(body)) == (503, {"ok": False, "loop_age_s": 61.0})
    told.looped()
    assert get(endpoint, "/healthz")[0] == 200
    endpoint.close()


def test_the_endpoint_speaks_both_formats_and_knows_its_paths() -> None:
    endpoint = Endpoint(LocalHost(), metrics(), "127.0.0.1", 0)
    assert list(text_string_to_metric_families(get(endpoint, "/metrics?x=1")[1]))
    assert get(endpoint, "/metrics", "application/openmetrics-text")[1].endswith("# EOF\n")
    assert get(endpoint, "/nothing") == (404, "/metrics, /healthz and /readyz are here\n")
    endpoint.close()


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_no_counter_has_a_twin_of_when_it_was_made(accept: str) -> None:
    told = metrics()
    told.transaction("committed", 0.1)
    endpoint = Endpoint(LocalHost(), told, "127.0.0.1", 0)
    assert "_created" not in get(endpoint, "/metrics", accept)[1]
    endpoint.close()


def served() -> None:
    """Wait until every request that came was dealt with."""
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(10)
            assert not thread.is_alive()


def test_a_scraper_that_goes_away_before_its_answer_leaves_no_word(
    log: io.StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, gone = threading.Event(), threading.Event()

    def waits_for_the_end() -> float:
        asked.set()
        assert gone.wait(10)
        return 0.0

    told = metrics()
    monkeypatch.setattr(told, "loop_age_s", waits_for_the_end)
    endpoint = Endpoint(LocalHost(), told, "127.0.0.1", 0)
    scraper = socket.create_connection(("127.0.0.1", endpoint.port), timeout=5)
    scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its close resets the connection
    scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: gate\r\n\r\n")
    assert asked.wait(10)
    scraper.close()
    gone.set()
    served()
    assert get(endpoint, "/healthz")[0] == 200
    endpoint.close()
    assert (capsys.readouterr().err, lines(log)) == ("", [])


def test_a_bug_in_an_answer_is_one_line_of_the_log(
    log: io.StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = metrics()
    monkeypatch.setattr(told, "loop_age_s", lambda: 1 / 0)
    endpoint = Endpoint(LocalHost(), told, "127.0.0.1", 0)
    with pytest.raises(ConnectionError):
        get(endpoint, "/healthz")
    served()
    endpoint.close()
    [line] = lines(log)
    assert (line["level"], line["component"]) == ("error", "metrics")
    assert "ZeroDivisionError" in str(line["exception"])
    assert capsys.readouterr().err == ""


def test_an_endpoint_listens_on_ipv6_too() -> None:
    endpoint = Endpoint(LocalHost(), metrics(), "::1", 0)
    with urllib.request.urlopen(f"http://[::1]:{endpoint.port}/metrics", timeout=5) as answer:
        assert answer.status == 200
    endpoint.close()


def test_a_taken_port_is_said_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        told = Metrics(LocalHost(), load_settings({"metrics_port": port, "metrics_host": "127.0.0.1"}))
        with pytest.raises(SettingsError, match=rf"can't listen on 127\.0\.0\.1:{port} .*PLACET_METRICS_PORT"):
            told.start()
        told.close()


def test_without_a_port_nothing_is_served() -> None:
    told = metrics()
    told.start()
    assert told.endpoint is None
    told.close()


@pytest.mark.parametrize(
    ("error", "lines_said"), [(BrokenPipeError(), 0), (ConnectionResetError(), 0), (KeyError("bug"), 1)]
)
def test_a_client_that_went_away_is_no_news_and_a_bug_is_one_line(
    error: Exception, lines_said: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scraper of a gate that stood still has given up: a traceback stood in the log of a healthy gate."""
    out = io.StringIO()
    configure_logs("info", out)
    endpoint = Endpoint(LocalHost(), metrics(), "127.0.0.1", 0)
    try:
        raise error
    except (OSError, KeyError):
        endpoint._server.handle_error(None, ("127.0.0.1", 1))
    endpoint.close()
    assert len(lines(out)) == lines_said
    assert capsys.readouterr().err == ""


def test_the_endpoint_of_a_gate_ends_with_it() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = Metrics(LocalHost(), load_settings({"metrics_port": port, "metrics_host": "127.0.0.1"}))
    told.start()
    assert told.endpoint is not None
    assert get(told.endpoint, "/healthz")[0] == 200
    told.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


# -- logs ------------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_every_line_is_json_with_the_context_even_from_another_thread() -> None:
    out = io.StringIO()
    configure_logs("info", out, app="a", instance="gate-0")
    thread = Thread(target=lambda: get_logger("restorer").info("restoring", task="lamp-0"))
    thread.start()
    thread.join()
    client_logger().error("FAIL [rdkafka#producer-1]: connection refused")
    ours, client = lines(out)
    assert (ours["app"], ours["instance"], ours["component"], ours["task"]) == ("a", "gate-0", "restorer", "lamp-0")
    assert ours["timestamp"].endswith("Z")
    assert (client["level"], client["app"]) == ("error", "a")
    assert client["event"] == "FAIL [rdkafka#producer-1]: connection refused"


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_a_logged_exception_never_shows_locals(out: io.StringIO) -> None:
    configure_logs("info", out)
    password = ["hush"]
    try:
        password.remove("what happened")
    except ValueError:
        get_logger("gate").exception("oh")
    assert "ValueError: list.remove(x): x not in list" in out.getvalue()
    assert "hush" not in out.getvalue()


def test_a_bug_that_ends_a_thread_is_one_line_and_no_traceback_amid_the_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threading.excepthook", threading.excepthook)  # what follows is undone after the test
    out = io.StringIO()
    configure_logs("info", out, app="a")
    log_thread_errors()
    thread = Thread(target=[].pop, name="housekeeping")
    thread.start()
    thread.join()
    [line] = lines(out)
    assert (line["level"], line["event"], line["thread"]) == ("error", "a bug ended a thread", "housekeeping")
    assert "IndexError: pop from empty list" in str(line["exception"])
    assert capsys.readouterr().err == ""


def test_below_the_level_nothing_is_logged() -> None:
    out = io.StringIO()
    configure_logs("warning", out)
    get_logger("gate").info("quiet")
    client_logger().info("quiet")
    get_logger("gate").warning("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


def test_a_terminal_gets_lines_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    configure_logs("info", out, app="placet", instance="a-long-name-of-a-laptop-04f3e1")
    get_logger("gate").info("restored", task="refund-0", records=7)
    shown = "[info] restored component=gate task=refund-0 records=7"
    assert " ".join(out.getvalue().split()[1:]) == shown
    assert re.match(r"\d\d:\d\d:\d\dZ ", out.getvalue())
    assert len(out.getvalue().rstrip()) <= 80, "a line of a terminal"
    with pytest.raises(json.JSONDecodeError):
        lines(out)
