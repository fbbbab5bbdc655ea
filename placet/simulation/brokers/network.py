"""The network between clients and brokers: requests that arrive, are lost or are late, and answers likewise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from confluent_kafka import KafkaError

from placet.simulation.brokers.nodes import Node
from placet.simulation.scheduler import Process, Scheduler

__all__ = [
    "GOOD",
    "LOST",
    "NOBODY_LISTENS",
    "TIMED_OUT",
    "TRANSPORT",
    "UNANSWERED",
    "Fate",
    "Handle",
    "Network",
    "OnReply",
    "Reply",
    "Sender",
]

TRANSPORT: Final = int(KafkaError._TRANSPORT)
TIMED_OUT: Final = int(KafkaError._TIMED_OUT)
NOBODY_LISTENS: Final = "connection refused"
"""The value beside `TRANSPORT` where there was no connection at all; None where one broke."""
_MS: Final = 1_000_000
_LATENCIES_NS: Final = (3_000_000, 1_000_000, 500_000, 100_000, 200_000, 300_000)

OnReply: TypeAlias = Callable[[int, Any], None]
"""Is told an error's code, 0 for none, and the answer."""
Reply: TypeAlias = OnReply
Handle: TypeAlias = Callable[[Reply], None]
"""Does at the broker what a request asks for; calls back once, now or later."""


class Sender(NamedTuple):
    """Who sends a request, what it is called in Kafka's protocol, and what it is about, for people."""

    process: Process
    what: str
    about: object = None


class Fate(NamedTuple):
    """What becomes of a request.

    Attributes:
        arrives: whether the broker gets it.
        answered: whether its answer gets back; else the connection breaks.
        breaks: whether the connection breaks soon after it was sent; it may arrive all the same.
        late_ns: how much later than usual it arrives.
        then: what happens right after the broker has done it.
    """

    arrives: bool = True
    answered: bool = True
    breaks: bool = False
    late_ns: int = 0
    then: Callable[[], None] | None = None


GOOD: Final = Fate()
LOST: Final = Fate(arrives=False, breaks=True)
UNANSWERED: Final = Fate(answered=False)
_SWALLOWED: Final = Fate(arrives=False, answered=False)
_TROUBLES: Final = (
    LOST,
    UNANSWERED,
    Fate(late_ns=20 * _MS, breaks=True),
    Fate(late_ns=400 * _MS, breaks=True),
    Fate(late_ns=400 * _MS),
)


class Network:
    """Brokers, and the connections to them.

    Args:
        scheduler: makes things happen later.
        brokers: how many there are.

    Attributes:
        near: whether clients and brokers are at one place: a request is answered before the call that sends it returns,
            if the broker can answer at once, and nothing goes wrong with it.
        trouble: once in so many requests each of some things goes wrong with it; 0: never.
        fate_of: draws what becomes of a request.
        cuts: what lies between a machine and a broker swallows all that is sent: the machine's name, and the broker.
        told: is told of each request that has ended: its sender, the broker and the answer's code.
    """

    def __init__(self, scheduler: Scheduler, brokers: int) -> None:
        self.nodes = {number: Node(number) for number in range(1, brokers + 1)}
        self.near = False
        self.trouble = 0
        self.cuts: set[tuple[str, int]] = set()
        self.fate_of = self.usual_fate
        self.told: Callable[[Sender, int, int], None] | None = None
        self.scheduler = scheduler
        self._choices = scheduler.choices

    def works(self, number: int) -> bool:
        """Tell whether a broker runs and speaks."""
        return self.nodes[number].up and not self.nodes[number].silent

    def clock_ms(self, number: int) -> int:
        """Return a broker's clock, in ms since the epoch."""
        return (self.scheduler.wall_ns() + self.nodes[number].skew_ns) // _MS

    def send(self, sender: Sender, number: int, handle: Handle, on_reply: OnReply, timeout_ns: int) -> None:
        """Send a request.

        Args:
            sender: whose it is, and what it is called. The process is told the answer unless it is dead.
            number: the broker.
            handle: what it does there. It happens even when nobody waits for the answer any more.
            on_reply: is called once: with what `handle` said, or with the code of a local error.
            timeout_ns: how long an answer is waited for.
        """
        node = self.nodes.get(number)
        if node is None or not node.up:
            self.scheduler.later(_MS, partial(on_reply, TRANSPORT, NOBODY_LISTENS), sender.process)
            return
        if self.near:
            handle(lambda code, value: self.scheduler.do_for(sender.process, partial(on_reply, code, value)))
            return
        self._choices.note(f"{self.scheduler.now_ns} {sender.process.name} {sender.what} {number}")
        request = _Request(self, sender, node, handle, on_reply, timeout_ns)
        cut = bool(self.cuts) and (sender.process.name.partition(".")[0], number) in self.cuts
        request.fate = fate = _SWALLOWED if cut else self.fate_of(sender, number)
        node.in_flight[request] = None
        if fate.late_ns or cut:
            self.scheduler.later(timeout_ns, request.give_up)
        if fate.breaks:
            self.scheduler.later(self.latency_ns(), request.break_off)
        if fate.arrives:
            self.scheduler.later(self.latency_ns() + fate.late_ns, request.arrive)

    def usual_fate(self, _sender: Sender, _number: int) -> Fate:
        """Draw what becomes of a request."""
        kind = self._choices.pick(self.trouble) if self.trouble else len(_TROUBLES)
        if kind >= len(_TROUBLES):
            return GOOD
        trouble = _TROUBLES[kind]
        return trouble._replace(late_ns=trouble.late_ns * (1 + self._choices.pick(10))) if trouble.late_ns else trouble

    def latency_ns(self) -> int:
        """Draw how long a request or an answer travels."""
        return _LATENCIES_NS[self._choices.pick(len(_LATENCIES_NS))]

    def break_connections(self, number: int) -> None:
        """Break all connections to a broker."""
        for request in list(self.nodes[number].in_flight):
            request.break_off()


class _Request:
    """A request on its way. Whatever becomes of it, its sender is told something once."""

    __slots__ = (
        "_answered",
        "_generation",
        "_handle",
        "_network",
        "_node",
        "_on_reply",
        "_replied",
        "_sender",
        "_timeout_ns",
        "fate",
    )

    def __init__(
        self, network: Network, sender: Sender, node: Node, handle: Handle, on_reply: OnReply, timeout_ns: int
    ) -> None:
        self._network = network
        self._sender = sender
        self._node = node
        self._generation = node.generation
        self._handle = handle
        self._on_reply = on_reply
        self._timeout_ns = timeout_ns
        self._replied = False
        self._answered = False
        self.fate = GOOD

    def arrive(self) -> None:
        """Let the broker do it. One that was away meanwhile never hears of it: the connection went with it."""
        node = self._node
        if not node.up or node.generation != self._generation:
            return
        if node.silent:
            node.held.append(self.arrive)
            self._network.scheduler.later(self._timeout_ns, self.give_up)
            return
        self._handle(self._reply)
        if self.fate.then is not None:
            self.fate.then()
        # What is answered at once gets there before any but the most impatient sender gives up.
        if not self._replied or self._timeout_ns <= _LATENCIES_NS[0]:
            self._network.scheduler.later(self._timeout_ns, self.give_up)

    def break_off(self) -> None:
        """Tell that the connection broke."""
        self._answer(TRANSPORT, None)

    def give_up(self) -> None:
        """Tell that no answer came in time."""
        self._answer(TIMED_OUT, None)

    def _reply(self, code: int, value: Any) -> None:
        self._replied = True
        network = self._network
        answer = partial(self._answer, code, value) if self.fate.answered else self.break_off
        network.scheduler.later(network.latency_ns(), answer)

    def _answer(self, code: int, value: Any) -> None:
        if not self._answered:
            self._answered = True
            self._node.in_flight.pop(self, None)
            if self._network.told is not None:
                self._network.told(self._sender, self._node.number, code)
            self._network.scheduler.do_for(self._sender.process, partial(self._on_reply, code, value))
