"""How late it is at least by the brokers' clocks: what is measured, when it counts, and what else is allowed for."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future

import pytest

from placet.streams.kafka.cluster import TopicInfo
from placet.streams.loop.broker_clocks import BrokerClocks
from placet.streams.records import ConsumerRecord, TopicPartition

SKEW_MS = 5_000
START_MS = 1_000_000
FACTS, LEDGER = TopicPartition("facts", 0), TopicPartition("ledger", 0)


class World:
    """Three brokers with clocks of their own, and who leads what: facts on brokers 1 and 2, the ledger on 2 and 3."""

    def __init__(self) -> None:
        self.seconds = 50.0
        self.wall_skew_ms = 0
        self.behind_ms = {1: 0, 2: 0, 3: 0}
        self.leaders = {FACTS: 1, LEDGER: 2}
        self.replicas = {FACTS: (1, 2), LEDGER: (2, 3)}
        self.unanswered: set[str] = set()
        self.clocks = BrokerClocks(self.ask, self.wall_ms, lambda: self.seconds, SKEW_MS)

    def true_ms(self) -> int:
        return START_MS + int(self.seconds * 1000)

    def wall_ms(self) -> int:
        return self.true_ms() + self.wall_skew_ms

    def ask(self, topics: Iterable[str]) -> dict[str, Future[TopicInfo]]:
        answers: dict[str, Future[TopicInfo]] = {topic: Future() for topic in topics}
        for topic, answer in answers.items():
            if topic not in self.unanswered:
                at = TopicPartition(topic, 0)
                info = TopicInfo("id", 1, 2, {}, leaders=(self.leaders[at],), replicas=(self.replicas[at],))
                answer.set_result(info)
        return answers

    def write(self, late_ms: int = 3) -> None:
        """Have each leader stamp a record, and hear of it a little later."""
        for partition, leader in self.leaders.items():
            stamped = self.true_ms() - self.behind_ms[leader]
            self.clocks.hear({partition: (stamped, self.seconds + late_ms / 1000)})

    def go_on(self, looks: int = 4) -> None:
        for _ in range(looks):
            self.write()
            self.clocks.look([FACTS])
            self.clocks.earliest_ms()
            self.seconds += 5

    def lateness_ms(self) -> int:
        return self.wall_ms() - self.clocks.earliest_ms()


def test_until_each_broker_that_may_lead_is_measured_the_allowed_skew_counts() -> None:
    world = World()
    assert world.lateness_ms() == SKEW_MS == world.clocks.slack_ms
    world.go_on()
    assert world.lateness_ms() <= 75
    assert world.clocks.slack_ms == 0
    world.replicas[FACTS] = (1, 2, 3)  # who may lead, and has stamped nothing
    world.go_on()
    assert world.lateness_ms() == SKEW_MS == world.clocks.slack_ms


def test_the_slowest_of_those_that_may_lead_counts() -> None:
    world = World()
    world.behind_ms[2] = 1_700  # it leads no input now, but may in a moment
    world.go_on()
    assert 1_700 <= world.lateness_ms() <= 1_775


@pytest.mark.parametrize("behind_ms", [-3_000, 7_000])
def test_it_is_never_ahead_of_our_clock_nor_further_behind_than_is_allowed(behind_ms: int) -> None:
    world = World()
    world.behind_ms = dict.fromkeys(world.behind_ms, behind_ms)
    world.go_on()
    assert world.lateness_ms() == (0 if behind_ms < 0 else SKEW_MS)


def test_a_leader_that_changes_leaves_its_records_to_nobody() -> None:
    world = World()
    for turn in range(8):
        world.leaders[FACTS] = 1 + turn % 2
        world.behind_ms[1] = 2_000
        world.go_on(1)
    assert world.lateness_ms() == SKEW_MS


def test_a_clock_of_ours_that_jumps_changes_nothing() -> None:
    world = World()
    world.go_on()
    world.wall_skew_ms = 4_000
    assert world.clocks.earliest_ms() <= world.true_ms()
    world.wall_skew_ms = -4_000
    assert world.clocks.earliest_ms() == world.wall_ms()


def test_an_old_measure_does_not_count_and_a_late_answer_to_a_record_is_no_worse_than_late() -> None:
    world = World()
    world.go_on()
    world.seconds += 1_180
    world.clocks.look([FACTS])
    assert world.lateness_ms() <= 700
    world.seconds += 30
    world.clocks.look([FACTS])
    assert world.lateness_ms() == SKEW_MS
    for _ in range(4):
        world.write(late_ms=900)
        world.clocks.look([FACTS])
        world.clocks.earliest_ms()
        world.seconds += 5
    assert 900 <= world.lateness_ms() <= 975


def test_other_tasks_are_measured_anew() -> None:
    world = World()
    world.go_on()
    world.clocks.forget()
    assert world.clocks.slack_ms == SKEW_MS
    world.clocks.look([FACTS, LEDGER])
    assert world.lateness_ms() == SKEW_MS  # broker 3 holds the ledger too


def test_without_an_answer_what_was_measured_counts_on() -> None:
    world = World()
    world.go_on()
    world.unanswered = {"facts"}
    world.go_on(2)
    assert world.lateness_ms() <= 75


def test_records_that_were_polled_measure_as_well() -> None:
    world = World()
    world.replicas[FACTS] = (1,)
    for _ in range(4):
        record = ConsumerRecord(*FACTS, 0, world.true_ms() - 400, b"o-1", b"")
        world.clocks.read([[record]])
        world.clocks.look([FACTS])
        world.clocks.earliest_ms()
        world.seconds += 5
    assert 400 <= world.lateness_ms() <= 475
