"""The timers of a task: which may be due next, and up to when nothing can come any more that was in time for one.

A timer that is due must not be faster than an answer that lies in an input partition since before it was due. So it
fires only when each input partition of its task was read beyond that time: when a later record was polled, or when its
leader named the partition's end after that time, and it is read up to there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, final

from placet.streams.records import ConsumerRecord
from placet.streams.state import layout
from placet.streams.state.store import StateStore

__all__ = ["NEVER", "DueTimers"]

_FIRST: Final = b"a"
NEVER: Final = 1 << 64


@final
class DueTimers:
    """Follows the index of armed timers in order of time: only what is due is ever read.

    Attributes:
        armed: whether there may be any.
        next_due: when the next one may be due, ms since the epoch.
        waits_past: how far each input partition has to be read before the next input is decided; 0 where none waits.

    Args:
        store: the task's.
        topics: the input topics.
    """

    def __init__(self, store: StateStore, topics: Iterable[str]) -> None:
        self.armed = False
        self.next_due = NEVER
        self.waits_past = 0
        self._store = store
        self._polled = dict.fromkeys(topics, 0)
        self._asked = dict.fromkeys(topics, (0, 0))
        self._cursor = self._seen = _FIRST

    def begin(self) -> None:
        """Look whether there are any, once the store is restored."""
        self.armed = bool(self._store.scan(_FIRST, _FIRST, 1))
        self._look()

    def polled(self, records: Iterable[ConsumerRecord]) -> None:
        """Take note of how far the partitions are read, per topic in order."""
        for record in records:
            self._polled[record.topic] = max(self._polled[record.topic], record.timestamp)

    def read_to_end(self, topic: str, at_ms: int, slack_ms: int) -> None:
        """Take note that nothing was left to read in a partition: no input that is still to come is older than a time.

        Args:
            topic: of the partition.
            at_ms: the time, ms since the epoch.
            slack_ms: how far it was behind this machine's clock, where only that was known.
        """
        self._asked[topic] = max(self._asked[topic], (at_ms, slack_ms))

    def begin_at(self, clock_ms: int) -> None:
        """Forget what a clock told that was ahead, and is set right since: a commit proves that it is right now."""
        for topic, (at_ms, slack_ms) in self._asked.items():
            self._asked[topic] = (min(at_ms, clock_ms - slack_ms), slack_ms)

    @property
    def read_past(self) -> int:
        """How far all input partitions are read, ms since the epoch: what is due earlier may fire."""
        return min(max(polled, self._asked[topic][0]) for topic, polled in self._polled.items())

    def is_past(self, due: int) -> bool:
        """Tell whether a timer may fire; else its entity's input waits for that."""
        self.waits_past = 0 if due < self.read_past else due
        return not self.waits_past

    @property
    def must_wait(self) -> bool:
        """Whether the next input has to wait still."""
        return bool(self.waits_past) and self.waits_past >= self.read_past

    @property
    def fires(self) -> bool:
        """Whether a timer may fire now."""
        return self.next_due < self.read_past

    def wants_ends(self, at_ms: int) -> bool:
        """Tell whether something fires, or an input waits no longer, if the partitions are read to their ends now."""
        return self.next_due < at_ms or (self.must_wait and self.waits_past < at_ms)

    def due(self, before: int, most: int) -> Iterator[tuple[bytes, int, bytes]]:
        """Give key, time and entity of what is due earlier than a time, in order."""
        for key, _ in self._store.scan(_FIRST, self._cursor, most):
            due, entity = layout.due_of(key)
            if due >= before:
                break
            yield key, due, entity

    def went_past(self, key: bytes) -> None:
        """Take note that the transaction takes a key away."""
        self._seen = key + b"\x00"

    def committed(self, armed: list[bytes]) -> None:
        """Go on behind what was taken away: RocksDB would walk over every deleted key again. Earlier ones may be new.

        Args:
            armed: keys that the transaction put there.
        """
        self.armed = self.armed or bool(armed)
        self._cursor = self._seen = min([*armed, self._seen])
        self._look()

    def discard(self) -> None:
        """Forget what an aborted transaction did, and what was polled."""
        self._seen, self.waits_past = self._cursor, 0
        self._polled = dict.fromkeys(self._polled, 0)
        self._asked = dict.fromkeys(self._asked, (0, 0))

    def _look(self) -> None:
        found = self._store.scan(_FIRST, self._cursor, 1) if self.armed else []
        self.next_due = layout.due_of(found[0][0])[0] if found else NEVER
