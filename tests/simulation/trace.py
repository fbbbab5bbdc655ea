"""What happened in a history, for people: a table, or a sequence chart of Mermaid's."""

from __future__ import annotations

from typing import Final, NamedTuple

from confluent_kafka import KafkaError

from placet.simulation.brokers.network import Sender
from tests.simulation.histories import History
from tests.simulation.world import World

__all__ = ["Trace"]

_QUIET: Final = frozenset({"Fetch", "ConsumerGroupHeartbeat", "Metadata", "Describe", "ConsumerGroupDescribe"})
"""Requests without end, of which only those that fail are shown."""
_CHART_MAX: Final = 400
_WIDTH: Final = 150


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

    def end(self, history: History) -> None:
        """Add what was wrong in the end."""
        self._end = list(history.wrong) or ["every invariant holds"]

    def table(self) -> str:
        """Return a line for each thing: the time in seconds, who, what."""
        rows = [f"{line.at_ns / 1e9:11.6f}  {line.who:<10.10}  {self._text(line)}"[:_WIDTH] for line in self._lines]
        head = [f"{'second':>11}  {'who':<10}  what", "-" * _WIDTH]
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
        answer = f": {KafkaError(code).name()}" if code else ""
        self._lines.append(_Line(self._world.scheduler.now_ns, sender.process.name, sender.what + answer, number))

    def _text(self, line: _Line) -> str:
        return f"→ broker {line.broker}  {line.what}" if line.broker else line.what


def _name(who: str) -> str:
    return who.replace(".", "_")
