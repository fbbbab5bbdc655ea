"""The re-run gives what was recorded, whatever it was cut into, and forgets only what may be forgotten."""

from __future__ import annotations

import pytest

from placet.definitions import load_definition
from placet.processors.address import Place
from placet.processors.dedup import CLOCK_AHEAD_MAX_MS
from placet.processors.machine import Machine, compile_machine
from placet.processors.replay import Replay
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Coordinates, Outcome, Reason
from placet.schemas.ledger import AppliedEntry
from placet.schemas.memory import Applied
from placet.schemas.messages import Kind, Message
from placet.schemas.state import Change
from placet.streams.records import TopicPartition
from placet.testing import TestDriver
from tests.unit.verify_history import DAY_MS, DEFINITION

START_MS = 1_767_225_600_000
KEEP_MS = DAY_MS + CLOCK_AHEAD_MAX_MS


@pytest.fixture(scope="module")
def machine() -> Machine:
    return compile_machine(load_definition(DEFINITION))


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(load_definition(DEFINITION))


class Rerunner:
    """Sends messages to a replay, at a log time."""

    def __init__(self, machine: Machine, codec: Codec) -> None:
        self.replay = Replay(Place(0, 1))
        self._machine, self._codec, self._offset = machine, codec, 0

    def send(
        self, log_time: int, kind: Kind, name: str, payload: dict[str, object], key: str
    ) -> tuple[Outcome, Reason]:
        message = Message(kind, name, key, "order-1", dict(payload), log_time, log_time, key)
        at = Coordinates("topic", 0, self._offset, log_time, log_time, 1, 1, self._offset, b"", 1)
        self._offset += 1
        rerun = self.replay.rerun(
            Rules(self._machine, self._codec), kind, b"order-1", self._codec.encode_message(message), at
        )  # fmt: skip
        return rerun.decision.outcome, rerun.decision.reason


@pytest.fixture
def rerunner(machine: Machine, codec: Codec) -> Rerunner:
    return Rerunner(machine, codec)


def test_recorded_inputs_give_the_recorded_decisions_and_states(machine: Machine, codec: Codec) -> None:
    driver = TestDriver(load_definition(DEFINITION))
    driver.signal("order-1", "opened", {"total": 5}, signal_id="opened-1")
    driver.propose("order-1", "hold", {"note": "a"}, dedup_key="k1")
    driver.propose("order-1", "hold", {"note": "a"}, dedup_key="k1")
    driver.signal("order-1", "seen", {}, signal_id="seen-1")
    driver.send_raw(Kind.SIGNAL, b"order-1", b"\xc3\x01nothing")
    replay = Replay(Place(0, 1))

    for decision, at in driver.decided:
        source = driver.log.records(TopicPartition(at.topic, 0), at.offset)[0]
        kind = Kind.SIGNAL if at.topic == driver.topics.signals else Kind.PROPOSAL
        rerun = replay.rerun(Rules(machine, codec), kind, source.key, source.value, at)
        assert rerun.decision == decision

    assert replay.state("order-1") == driver.read("order-1")


def test_memory_counts_for_the_horizon_and_no_longer(rerunner: Rerunner) -> None:
    assert rerunner.send(START_MS, Kind.SIGNAL, "opened", {"total": 1}, "a") == (Outcome.ACCEPTED, Reason.NONE)
    for days in range(1, 4):  # the generations of the memory change meanwhile
        key = f"key-{days}"
        sent_at = START_MS + days * (KEEP_MS + 1)
        assert rerunner.send(sent_at, Kind.SIGNAL, "added", {"amount": 1}, key)[0] is Outcome.ACCEPTED
        last = (sent_at + KEEP_MS, Kind.SIGNAL, "added", {"amount": 1}, key)
        assert rerunner.send(*last) == (Outcome.DUPLICATE, Reason.REPEATED)
    assert rerunner.send(last[0] + 1, *last[1:]) == (Outcome.ACCEPTED, Reason.NONE)


def test_memory_of_many_horizons_is_let_go(rerunner: Rerunner) -> None:
    rerunner.send(START_MS, Kind.SIGNAL, "opened", {"total": 1}, "opened")
    for number in range(1, 400):
        rerunner.send(START_MS + number * DAY_MS // 10, Kind.SIGNAL, "added", {"amount": 1}, f"key-{number}")

    assert rerunner.replay.remembered <= 25


def test_why_an_entity_may_not_be_forgotten(rerunner: Rerunner) -> None:
    replay = rerunner.replay
    assert replay.why_not_forgotten("order-1", START_MS, DAY_MS) == "nothing is known of the entity"

    rerunner.send(START_MS, Kind.SIGNAL, "opened", {"total": 1}, "a")
    assert replay.why_not_forgotten("order-1", START_MS, DAY_MS) == "the entity is `open`"

    rerunner.send(START_MS, Kind.SIGNAL, "closed", {}, "b")
    assert "counts for another 0 ms" in replay.why_not_forgotten("order-1", START_MS + KEEP_MS, DAY_MS)
    assert replay.why_not_forgotten("order-1", START_MS + KEEP_MS + 1, DAY_MS) == ""

    replay.forget("order-1")
    rerunner.send(START_MS + 2 * DAY_MS, Kind.SIGNAL, "opened", {"total": 1}, "c")
    assert replay.state("order-1").version == 1


def test_adopting_what_was_recorded_leads_to_the_same_states(machine: Machine) -> None:
    """As where a check starts late: states by the changelog, the rest by ledger and decisions."""
    driver = TestDriver(load_definition(DEFINITION))
    driver.signal("order-1", "opened", {"total": 5}, signal_id="opened-1")
    driver.signal("order-1", "seen", {}, signal_id="seen-1")
    driver.advance(seconds=1)
    driver.signal("order-1", "seen", {}, signal_id="seen-2")
    replay = Replay(Place(0, 1))

    for change in driver.changelog:
        assert isinstance(change, Change)
        replay.adopt_change(change)
    for entry in driver.ledger:
        if isinstance(entry, AppliedEntry):
            replay.adopt_entry(entry)
    for decision, at in driver.decided:
        replay.adopt_decision(decision, at, machine.horizon_ms)

    assert replay.state("order-1") == driver.read("order-1")
    assert replay.memory(Kind.SIGNAL, "order-1", "key:seen-2") is not None
    assert replay.memory(Kind.SIGNAL, "order-1", "key:opened-1") is not None
    assert replay.memory(Kind.PROPOSAL, "order-1", "key:seen-2") is None


def test_an_older_applied_input_is_not_taken_over_a_newer_one() -> None:
    replay = Replay(Place(0, 1))
    newer = Applied(20, "b", b"", 0, 30)
    for applied in (newer, Applied(10, "a", b"", 0, 40), Applied(20, "c", b"", 0, 29)):
        replay.adopt_entry(AppliedEntry("order-1", 0, "seen", applied, 1, 1))

    assert replay.state("order-1").applied == {"seen": newer}
