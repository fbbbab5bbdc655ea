"""The run itself: a year of facts, replayed at speed; decisions as they come; a gate that is killed on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from demo.flights import DAY_MS, HOUR_MS, Fact
from demo.tally import Kill, Tally
from demo.view import View
from demo.world import APP, DEFINITION, PARTITIONS, DemoError, World
from placet.definitions import load_definition
from placet.schemas.codec.codec import Codec
from placet.schemas.messages import Kind, Message
from placet.streams.topology import entity_topics

WAITING_MAX, BEHIND_MAX = 6_000, 1_500
"""So many inputs may wait for gates, so many facts for an advisor; then the world stands still. A machine that is too
slow for the pace must not drown in its past: advisors that read what is long over have nothing to say."""
STOP_AT, STOP_S = 0.2, 6.0
"""After this share of the flights was announced the advisors stand still, for so long."""
KILL_AT = 0.5
"""After this share of the flights was announced a gate is killed."""
SUPERVISOR_S = 3.0
"""So long after the takeover the killed gate is started again, as a supervisor would."""
QUIET_S, THOUGHTS_MAX_S, LOOK_EACH_S = 1.0, 5.0, 0.25


def clock_ms() -> int:
    """Return this machine's clock, ms since the epoch."""
    return time.time_ns() // 1_000_000


class Run:
    """Feeds facts, sees decisions, kills a gate.

    Args:
        stack: closes its connections.
        world: what runs.
        coming: the facts.
        flights: of how many flights.
        day_s: how long a day lasts here.
    """

    def __init__(self, stack: ExitStack, world: World, coming: Iterator[Fact], flights: int, day_s: float) -> None:
        definition = load_definition(DEFINITION)
        self.definition, self.topics = definition, entity_topics(APP, definition.entity)
        self._codec = Codec(definition)
        self.tally = Tally(clock_ms())
        self.days: list[str] = []
        self.calendar: list[tuple[str, float]] = []
        self._world, self._coming, self._flights = world, coming, flights
        self._speed = DAY_MS / day_s
        self._next = next(coming, None)
        self._now_ms = float(self._next.at if self._next else 0)
        self._last_s = time.monotonic()
        self._fed = self._announced = self._heard = self._not_come_to = 0
        self._look_at_s = 0.0
        self._asked_again_s = 0.0
        self._go_on_at_s = 0.0
        self._producer = Producer({"bootstrap.servers": world.servers, "partitioner": "murmur2_random", "linger.ms": 5})
        self._eyes = Consumer({
            "bootstrap.servers": world.servers, "group.id": "demo-eyes", "enable.auto.commit": False,
            "isolation.level": "read_committed",
        })  # fmt: skip
        stack.callback(self._eyes.close)
        stack.callback(self._producer.purge)
        self._eyes.assign([TopicPartition(self.topics.decisions, n, 0) for n in range(PARTITIONS)])

    def go(self, view: View) -> None:
        """Run until the last flight has arrived and the advisors have nothing more to say."""
        while self._next is not None:
            self._feed()
            self._step(view)
        view.say("The last flight has arrived. The advisors finish their thoughts ...")
        self._until(view, "all facts are decided", lambda: self.tally.decided >= self._fed)
        self._let_them_finish(view)
        view.say("The advisors are asked to leave ...")
        self._world.ask_advisors_to_leave()
        self._until(view, "the advisors have left", self._world.advisors_have_left)
        self._until(view, "everything is decided", lambda: self.tally.decided >= self._on_the_log())

    def _until(self, view: View, what: str, condition: Any) -> None:
        deadline_s = time.monotonic() + 120
        while not condition():
            self._step(view)
            if time.monotonic() > deadline_s:
                raise DemoError(f"not within 120 s: {what}\n" + "".join(g.last_words() for g in self._world.gates))

    def _let_them_finish(self, view: View) -> None:
        """Wait for thoughts that are under way: most take a second, a few much longer than anyone wants to wait."""
        began_s = quiet_s = time.monotonic()
        decided = self.tally.decided
        while time.monotonic() < min(quiet_s + QUIET_S, began_s + THOUGHTS_MAX_S):
            self._step(view)
            thinking = any(self._world.last_entry(advisor.name).get("thinking") for advisor in self._world.advisors)
            if self.tally.decided != decided or thinking:
                decided, quiet_s = self.tally.decided, time.monotonic()

    def _step(self, view: View) -> None:
        """Look at decisions, and at the gates."""
        self._producer.poll(0)
        messages: list[Any] = self._eyes.consume(1_000, 0.02)
        values = [message.value() for message in messages if message.error() is None]
        self.tally.take(clock_ms(), [self._codec.decode_decision(value) for value in values])
        self._mind_the_advisors(view)
        self._mind_the_gates(view)
        view.update(self._announced, self._fed)

    def _feed(self) -> None:
        """Report what has happened by now. Each fact happens now: the year's times are fields."""
        last_s, self._last_s = self._last_s, time.monotonic()
        if self._fed - self.tally.decided < WAITING_MAX and self._behind() < BEHIND_MAX:
            self._now_ms += (self._last_s - last_s) * self._speed
        self._turn_the_page()
        while self._next is not None and self._next.at <= self._now_ms:
            self._send(self._next)
            self._next = next(self._coming, None)

    def _behind(self) -> int:
        """Count the facts that the slower advisor has not come to; none while it, or a gate, stands still."""
        if self._advisors_stand_still or (self.tally.kill and not self.tally.is_taken_over()):
            return 0
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + LOOK_EACH_S
            entries = [self._world.last_entry(advisor.name) for advisor in self._world.advisors]
            self._not_come_to = max((self._heard - entry.get("over", 0) for entry in entries), default=0)
        return self._not_come_to

    def _turn_the_page(self) -> None:
        """Note when each day begins in New York."""
        day = datetime.fromtimestamp((self._now_ms - 5 * HOUR_MS) / 1_000, UTC).date().isoformat()
        if not self.calendar or self.calendar[-1][0] != day:
            self.calendar.append((day, round((clock_ms() - self.tally.began_ms) / 1_000, 1)))

    def _send(self, fact: Fact) -> None:
        now_ms = clock_ms()
        message = Message(
            Kind.SIGNAL, fact.name, f"{fact.name}.{fact.flight}.{fact.at}", fact.flight, fact.payload, now_ms, now_ms,
            proposer="airline",
        )  # fmt: skip
        self._producer.produce(self.topics.signals, self._codec.encode_message(message), fact.flight.encode())
        self._fed += 1
        self._heard += fact.name != "flight_diverted"  # no advisor listens to that
        if fact.name == "flight_scheduled":
            self._announced += 1
            day = fact.flight.partition(".")[0]
            self.days = [min(self.days[0], day), max(self.days[1], day)] if self.days else [day, day]

    @property
    def _advisors_stand_still(self) -> bool:
        return bool(self.tally.stopped_ms) and not self.tally.went_on_ms

    def _mind_the_advisors(self, view: View) -> None:
        """Let them stand still for a while, as models do whose provider is away: a rule acts in their place."""
        tally = self.tally
        if not tally.stopped_ms and self._announced >= self._flights * STOP_AT:
            self._world.freeze_advisors()
            tally.stopped_ms, self._go_on_at_s = clock_ms(), time.monotonic() + STOP_S
            view.say("[red]Both advisors stand still[/], as if no model answered. Facts go on.")
        elif self._advisors_stand_still and time.monotonic() >= self._go_on_at_s:
            self._world.unfreeze_advisors()
            tally.went_on_ms = clock_ms()
            told = sum(at_ms >= tally.stopped_ms for at_ms in tally.told_ms)
            view.say(f"[green]The advisors go on. Meanwhile a rule told the passengers of {told:,} flights.[/]")

    def _mind_the_gates(self, view: View) -> None:
        """Kill a gate in the middle; start it again once the other one has taken over."""
        tally, world = self.tally, self._world
        world.check()
        if tally.kill is None:
            if self._announced >= self._flights * KILL_AT and self.tally.went_on_ms:
                self._kill(view)
        elif not tally.restarted_ms and tally.is_taken_over():
            if not self._asked_again_s:
                took_s = max(tally.takeover_ms().values()) / 1_000
                view.say(f"[green]gate-0 has taken over: {took_s:.1f} s from the kill -9 to the next decisions.[/]")
                self._asked_again_s = time.monotonic() + SUPERVISOR_S
            if time.monotonic() >= self._asked_again_s:
                tally.restarted_ms = clock_ms()
                world.restart(1)
                view.say("gate-1 is started again, with the state that it left on its disk.")

    def _kill(self, view: View) -> None:
        gate = self._world.gates[1]
        partitions = tuple(gate.partitions())
        if not partitions:  # a rebalance is under way: look again
            return
        self._world.kill(1)
        self.tally.kill = Kill(gate.name, clock_ms(), partitions)
        view.say(
            f"[red]kill -9 gate-1[/], which decides on partitions {' and '.join(map(str, partitions))}. "
            "Facts and proposals go on."
        )

    def _on_the_log(self) -> int:
        """Count the inputs that are on the log."""
        places = [TopicPartition(topic, n) for topic in self.topics.inputs for n in range(PARTITIONS)]
        return sum(self._eyes.get_watermark_offsets(place, timeout=10)[1] for place in places)
