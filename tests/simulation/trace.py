"""What happened in a history, for people: a table, or a sequence chart of Mermaid's."""

from __future__ import annotations

from itertools import groupby
from typing import Final, NamedTuple

from confluent_kafka import KafkaError

from placet.simulation.brokers.network import Sender
from placet.simulation.brokers.transactions import OpenTransaction
from tests.simulation.histories import History
from tests.simulation.rules import APP
from tests.simulation.world import World

__all__ = ["Trace"]

_QUIET: Final = frozenset({"Fetch", "ConsumerGroupHeartbeat", "Metadata", "Describe", "ConsumerGroupDescribe"})
"""Requests without end, of which only those that fail are shown."""
_NOT_SHOWN: Final = f"(not shown: {', '.join(sorted(_QUIET))}, where they were answered)"
_CHART_MAX: Final = 400
_WIDTH: Final = 220


class _Line(NamedTuple):
    at_ns: int
    who: str
    what: str
    broker: int  # 0: no request


class Trace:
    """Takes notes of a history: what gates say, what goes wrong around them, and the requests that they send."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._world: World | None = None
        self._end: list[str] = []

    def watch(self, world: World) -> None:
        """Take notes of a world from now on."""
        self._world = world
        world.on_note = lambda who, what: self._lines.append(_Line(world.scheduler.now_ns, who, what, 0))
        world.cluster.network.told = self._told
        world.cluster.transactions.on_end = self._ended

    def end(self, history: History) -> None:
        """Add what was wrong in the end."""
        self._end = list(history.wrong) or ["every invariant holds"]

    def table(self) -> str:
        """Return a line for each thing: the time in seconds, who, what; what was wrong stands above and below."""
        rows = []
        for (_, who, what, broker), run in groupby(self._lines, key=lambda line: (0, *line[1:])):
            lines = list(run)
            text = f"→ broker {broker}  {what}" if broker else what
            times = f"  (×{len(lines)})" if len(lines) > 1 else ""
            rows.append(f"{lines[0].at_ns / 1e9:11.6f}  {who:<11.11}  {text}{times}"[:_WIDTH])
        head = [*self._end, _NOT_SHOWN, "-" * _WIDTH, f"{'second':>11}  {'who':<11}  what", "-" * _WIDTH]
        return "\n".join([*head, *rows, "-" * _WIDTH, *self._end]) + "\n"

    def mermaid(self) -> str:
        """Return the last things as a sequence chart."""
        lines = self._lines[-_CHART_MAX:]
        people = dict.fromkeys(line.who for line in lines)
        brokers = sorted({line.broker for line in lines if line.broker})
        text = ["```mermaid", "sequenceDiagram"]
        text += [f"  participant {_name(who)} as {who}" for who in people]
        text += [f"  participant broker{number} as broker {number}" for number in brokers]
        for line in lines:
            what = line.what.replace(";", ",").replace(":", " ")[:_WIDTH]
            if line.broker:
                text.append(f"  {_name(line.who)}->>broker{line.broker}: {what}")
            else:
                text.append(f"  Note over {_name(line.who)}: {line.at_ns / 1e9:.3f} s {what}")
        return "\n".join([*text, "```", "", *self._end]) + "\n"

    def _told(self, sender: Sender, number: int, code: int) -> None:
        if self._world is None or (sender.what in _QUIET and not code):
            return
        about = f" {_shown(sender.about)}" if sender.about else ""
        answer = f": {KafkaError(code).name()}" if code else ""
        line = _Line(self._world.scheduler.now_ns, sender.process.name, f"{sender.what}{about}{answer}", number)
        self._lines.append(line)

    def _ended(self, transaction: OpenTransaction) -> None:
        """The coordinator ends a transaction: that is the moment at which it is committed or aborted."""
        assert self._world is not None
        groups = [self._world.cluster.group(name) for name, number in transaction.places if number < 0]
        moved = [group.pending.get(transaction.producer_id, {}) for group in groups]
        told = f"{transaction.result} of {transaction.name}, epoch {transaction.epoch}; positions {_shown(moved)}"
        self._lines.append(_Line(self._world.scheduler.now_ns, "coordinator", told, 0))


def _shown(about: object) -> str:
    """Write partitions as people do: order.signals-0."""
    match about:
        case (str() as topic, int() as number):
            return f"{topic.removeprefix(APP + '.')}-{number}"
        case dict():
            return ", ".join(f"{_shown(at)} to {to}" for at, to in sorted(about.items())) or "none"
        case list() | tuple():
            return ", ".join(map(_shown, about)) or "none"
    return str(about)


def _name(who: str) -> str:
    return who.replace(".", "_")
