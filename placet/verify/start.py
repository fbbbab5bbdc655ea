"""From where on a task can be checked: retention and compaction took away what was before. Pure.

whole     inputs and decisions reach back to the first transaction: start from nothing, unless windows changed and the
          ledger is compacted before: it alone told since when they were kept
later     after the first commit from which on the changelog is whole, inputs are held, and decisions are held for
          as long before as dedup memory counts: start from the changelog, and remember what the decisions say
nothing   else: only what is newer than the last commit, which is what a restore would start from
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from placet.processors.dedup import memory_kept_ms
from placet.schemas.ledger import Commit, Genesis, LedgerEntry, Span, Windows
from placet.streams.records import ConsumerRecord

__all__ = ["LogStart", "Start", "StartSearch"]


class Start(NamedTuple):
    """Where a check starts: after transaction `sequence`, of which `commit` is the record; 0 and None: from nothing.

    `why` says what is missing before.
    """

    sequence: int = 0
    commit: Commit | None = None
    why: str = ""


class LogStart(NamedTuple):
    """What retention and compaction left. Times in ms since the epoch.

    Attributes:
        inputs: first offset held, by input topic.
        decisions: first offset held.
        decisions_since: log time of the first decision held; None where there is none.
        uncompacted_since: what was appended from this time on is younger than the compaction lag.
    """

    inputs: Mapping[str, int]
    decisions: int
    decisions_since: int | None
    uncompacted_since: int


class StartSearch:
    """Reads the commits of a ledger in order, and finds the first that a check can start after.

    Args:
        held: what is left.
        horizon_ms: the longest horizon of any definition.
        positions: the group's, by input topic; None where it has none.

    Attributes:
        last: the newest commit.
        covered: sequence of the newest commit with decisions that is not beyond the positions.
    """

    def __init__(self, held: LogStart, horizon_ms: int, positions: Mapping[str, int | None]) -> None:
        self.last: Commit | None = None
        self.covered = 0
        self._positions = positions
        self._held = held
        self._memory_ms = memory_kept_ms(horizon_ms)
        self._gap = self._lost_windows = False
        self._first: Commit | None = None
        self._found: Commit | None = None
        self._is_whole = True

    def take(self, record: ConsumerRecord, entry: LedgerEntry) -> None:
        """Look at the next entry of the ledger."""
        known = 0 if self.last is None else self.last.sequence
        if isinstance(entry, Windows):
            self._lost_windows |= entry.sequence > 1 and (self._gap or entry.sequence != known + 1)
        if isinstance(entry, Genesis):
            self._is_whole = entry.memory_since == 0
        if not isinstance(entry, Commit):
            return
        self._gap |= entry.sequence != known + 1
        if self.last is None:
            self._first = entry
        elif entry.sequence != known + 1:
            self._found = None  # whether compaction or a fault made the gap is not for here
        self.last = entry
        if entry.decisions and all(self._is_below(span) for span in entry.spans):
            self.covered = entry.sequence
        if self._found is None and self._fits(record, entry):
            self._found = entry

    def start(self) -> Start:
        """Return the earliest start."""
        missing = self._missing()
        if not missing or self.last is None:
            return Start()
        commit = self._found or self.last
        return Start(commit.sequence, commit, missing)

    def positions(self) -> dict[str, int]:
        """Return up to where inputs were decided: the group's positions, or else the ledger's."""
        ends = {span.topic: span.end for span in self.last.spans} if self.last else {}
        return {
            topic: ends.get(topic, 0) if position is None else position for topic, position in self._positions.items()
        }

    def _is_below(self, span: Span) -> bool:
        position = self._positions.get(span.topic)
        return position is None or span.end <= position

    def _missing(self) -> str:
        """What of the beginning is gone."""
        if self._held.decisions > 0:
            return "earlier decisions are deleted by retention"
        first = self._first if self._first is not None and self._first.sequence == 1 else None
        if first is None and self._first is not None and not self._is_whole:
            return "earlier states are from a copy of a changelog"
        begun = {span.topic: span.start for span in first.spans} if first else {}
        gone = [topic for topic, offset in self._held.inputs.items() if offset > begun.get(topic, 0)]
        if gone:
            return f"earlier inputs of {', '.join(gone)} are deleted by retention"
        return "since when windows were kept is compacted away" if self._lost_windows else ""

    def _fits(self, record: ConsumerRecord, commit: Commit) -> bool:
        held = self._held
        since = 0 if held.decisions == 0 else held.decisions_since
        return (
            record.timestamp >= held.uncompacted_since
            and all(span.end >= held.inputs.get(span.topic, 0) for span in commit.spans)
            and since is not None
            and (since == 0 or commit.log_time - self._memory_ms > since)
        )
