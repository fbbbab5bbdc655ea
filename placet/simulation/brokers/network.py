"""The network between clients and brokers: requests that arrive, are lost or are late, and answers likewise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from confluent_kafka import KafkaError

from placet.simulation.brokers.nodes import Node
from placet.simulation.scheduler import Process, Scheduler

__all__ = ["TIMED_OUT", "TRANSPORT", "Handle", "Network", "OnReply", "Reply"]

TRANSPORT: Final = int(KafkaError._TRANSPORT)
TIMED_OUT: Final = int(KafkaError._TIMED_OUT)
_MS: Final = 1_000_000
_LATENCIES_NS: Final = (100_000, 200_000, 300_000, 500_000, 1_000_000, 3_000_000)
_LATE_NS: Final = 400 * _MS

OnReply: TypeAlias = Callable[[int, Any], None]
"""Is told an error's code, 0 for none, and the answer."""
Reply: TypeAlias = OnReply
Handle: TypeAlias = Callable[[Reply], None]
"""Does at the broker what a request asks for; calls back once, now or later."""


class Network:
    """Brokers, and the connections to them.

    Args:
        scheduler: makes things happen later.
        brokers: how many there are.

    Attributes:
        trouble: once in so many requests something goes wrong with its connection; 0: never.
    """

    def __init__(self, scheduler: Scheduler, brokers: int) -> None:
        self.nodes = {number: Node(number) for number in range(1, brokers + 1)}
        self.trouble = 0
        self._scheduler = scheduler
        self._choices = scheduler.choices

    def works(self, number: int) -> bool:
        """Tell whether a broker runs and speaks."""
        return self.nodes[number].up and not self.nodes[number].silent

    def clock_ms(self, number: int) -> int:
        """Return a broker's clock, in ms since the epoch."""
        return (self._scheduler.start_ns + self._scheduler.now_ns + self.nodes[number].skew_ns) // _MS

    def send(self, process: Process, number: int, handle: Handle, on_reply: OnReply, timeout_ns: int) -> None:
        """Send a request.

        Args:
            process: who sends it, and is told the answer unless it is dead.
            number: the broker.
            handle: what it does there. It happens even when nobody waits for the answer any more.
            on_reply: is called once: with what `handle` said, or with the code of a local error.
            timeout_ns: how long an answer is waited for.
        """
        node = self.nodes.get(number)
        if node is None or not node.up:
            self._scheduler.later(_MS, partial(on_reply, TRANSPORT, None), process)
            return
        answered = False

        def answer(code: int, value: Any) -> None:
            nonlocal answered
            if not answered:
                answered = True
                node.in_flight.pop(answer, None)
                self._scheduler.do_for(process, partial(on_reply, code, value))

        def lost(_code: int = 0, _value: Any = None) -> None:
            self._scheduler.later(self.latency_ns(), partial(answer, TRANSPORT, None))

        def replied(code: int, value: Any) -> None:
            self._scheduler.later(self.latency_ns(), partial(answer, code, value))

        def give_up() -> None:
            answer(TIMED_OUT, None)

        generation = node.generation
        say: Reply = replied

        def arrive() -> None:
            if not node.up or node.generation != generation:
                return  # the connection went with it, which was told
            if node.silent:
                node.held.append(arrive)
                self._scheduler.later(timeout_ns, give_up)
                return
            handle(say)
            if not answered:
                self._scheduler.later(timeout_ns, give_up)

        node.in_flight[answer] = None
        there_ns = self.latency_ns()
        fate = self._choices.pick(self.trouble) if self.trouble else -1
        if fate == 0:  # it never arrives
            lost()
            return
        if fate == 1:  # its answer never arrives
            say = lost
        elif fate == 2:  # it is late, and it may be that nobody waits any more
            there_ns += (1 + self._choices.pick(10)) * _LATE_NS
            self._scheduler.later(timeout_ns, give_up)
            if self._choices.pick(2):
                lost()
        self._scheduler.later(there_ns, arrive)

    def latency_ns(self) -> int:
        """Draw how long a request or an answer travels."""
        return _LATENCIES_NS[self._choices.pick(len(_LATENCIES_NS))]

    def break_connections(self, number: int) -> None:
        """Break all connections to a broker."""
        for answer in list(self.nodes[number].in_flight):
            answer(TRANSPORT, None)
