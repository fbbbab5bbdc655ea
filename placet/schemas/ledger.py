"""The ledger: what each transaction covered, and the memory that no change carries. Internal, but a contract.

Keys: `genesis`, `windows`, `commit`, `memory/<kind>/<entity>/<dedup key>`, `applied/<entity>/<name>`,
`disarmed/<entity>/<name>`, `counted/<entity>`; later `pending/…`. Compacted like the changelog, with the same lag:
within the horizon every entry is there, after that the last of each key.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import msgspec

from placet.schemas.memory import Applied, Counts, Memory

__all__ = [
    "CONSEQUENCES",
    "AppliedEntry",
    "Commit",
    "Counted",
    "CountedPart",
    "Disarmed",
    "Genesis",
    "Held",
    "KeptWindow",
    "LedgerEntry",
    "MemoryEntry",
    "Span",
    "Windows",
    "counted_parts",
]


class Span(NamedTuple):
    """What one transaction took of one input topic: from the first position to the next position."""

    topic: str
    start: int
    end: int


class Genesis(msgspec.Struct, frozen=True, gc=False):
    """What a ledger belongs to, and since when its memory is complete: written once, in the task's first transaction.

    It stands before that transaction's commit, and behind the memory of its inputs that changed nothing.
    """

    topic_ids: dict[str, str]
    partitions: int
    memory_since: int
    created_at: int


class KeptWindow(NamedTuple):
    """One window of the rules: what it counts, and for how long.

    It counts what was accepted from the log time `since` on; from `complete_since` on that is all there was.
    """

    name: str
    what: str
    within_ms: int
    since: int
    complete_since: int


class Windows(msgspec.Struct, frozen=True, gc=False):
    """The windows that a task keeps: written in the first transaction of rules with others than those before."""

    windows: tuple[KeptWindow, ...]
    task_epoch: int
    sequence: int


class Commit(msgspec.Struct, frozen=True, gc=False):
    """One transaction of one task. Times in milliseconds since the epoch.

    `sequence` goes on over task epochs. `digest` is over key and value of the transaction's decisions, changes and
    tombstones in order: each change before its decision, the tombstones last. It covers no headers, no other entries
    of the ledger and no columns of the commit. `previous` is the digest of the commit before, so that adjacent commits
    link. `changes` does not count tombstones. `watermark` is the newest event_time applied, never above log time.
    """

    task_epoch: int
    sequence: int
    spans: tuple[Span, ...]
    log_time: int
    decided_at: int
    watermark: int
    control_position: int
    definition_digest: bytes
    ladder: int
    decisions: int
    changes: int
    digest: bytes
    previous: bytes


class MemoryEntry(msgspec.Struct, frozen=True, gc=False):
    """Dedup memory of an accepted input that changed nothing (a change carries its own)."""

    kind: int
    entity_id: str
    dedup_key: str
    memory: Memory
    task_epoch: int
    sequence: int


class AppliedEntry(msgspec.Struct, frozen=True, gc=False):
    """The newest applied signal of a name where it changed nothing."""

    entity_id: str
    incarnation: int
    name: str
    applied: Applied
    task_epoch: int
    sequence: int

    @property
    def memory(self) -> Memory | None:
        """No dedup memory of its own (see `Change.memory`)."""
        return None


class Held(msgspec.Struct, frozen=True, gc=False):
    """An input that waits for something, such as an approval. Reserved: nothing writes it yet.

    `occasion` is the dedup key, or the name where the entity itself remembers it. `topic` and `offset` name the input,
    and so the PENDING decision. `schema` is the writer's as JSON, empty where the control topic holds it.
    """

    kind: int
    entity_id: str
    occasion: str
    name: str
    input_id: str
    topic: str
    offset: int
    reason_code: int
    log_time: int
    until: int
    payload_digest: bytes
    base_version: int
    rule_digest: bytes
    schema: str
    value: bytes
    task_epoch: int
    sequence: int

    @property
    def memory(self) -> Memory | None:
        """None (see `Change.memory`)."""
        return None


class Disarmed(msgspec.Struct, frozen=True, gc=False):
    """A timer that fired and changed nothing: it is armed no more.

    `armed` is the version that armed it, `incarnation` the life in which that was.
    """

    entity_id: str
    incarnation: int
    name: str
    armed: int
    task_epoch: int
    sequence: int

    @property
    def memory(self) -> Memory | None:
        """None (see `Change.memory`)."""
        return None


class CountedPart(NamedTuple):
    """What windows hold that count the same, of one proposer where they do: log times and amounts of inputs."""

    what: str
    by: str
    times: list[int]
    amounts: list[int]


class Counted(msgspec.Struct, frozen=True, gc=False):
    """All that an entity's windows hold, after an input that they count and that changed nothing.

    It counts on top of the change that led to `version`, in the life of that incarnation; a later change carries its
    own. `log_time` is the input's.
    """

    entity_id: str
    incarnation: int
    version: int
    log_time: int
    parts: tuple[CountedPart, ...]
    task_epoch: int
    sequence: int

    @property
    def memory(self) -> Memory | None:
        """None (see `Change.memory`)."""
        return None

    @property
    def counts(self) -> Counts:
        """All parts, as a state has them."""
        found: Counts = {}
        for part in self.parts:
            pairs = zip(part.times, part.amounts, strict=True)
            found.setdefault(part.what, {})[part.by] = [number for pair in pairs for number in pair]
        return found


def counted_parts(counts: Counts) -> tuple[CountedPart, ...]:
    """Return what windows hold as parts, in order: equal counts, equal bytes."""
    return tuple(
        CountedPart(what, by, entries[::2], entries[1::2])
        for what, proposers in sorted(counts.items())
        for by, entries in sorted(proposers.items())
    )


CONSEQUENCES: Final = (MemoryEntry, AppliedEntry, Held, Disarmed, Counted)
"""The kinds that follow from an input; the others tell of the ledger itself."""

LedgerEntry: TypeAlias = Genesis | Windows | Commit | MemoryEntry | AppliedEntry | Held | Disarmed | Counted
