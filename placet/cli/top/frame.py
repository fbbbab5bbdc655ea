"""What `placet top` shows at one moment: the numbers of all gates, as JSON prints them. Built in `watch`.

Units stand in the names. None is "not known": a rate before the second look, a number of a gate that does not answer.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

__all__ = [
    "Flow",
    "Frame",
    "Gate",
    "GateRules",
    "Note",
    "NoteLevel",
    "OutcomeRate",
    "Partition",
    "PartitionPhase",
    "Restore",
]


class PartitionPhase(StrEnum):
    """Where a partition's task is; NOBODY: none of the gates that answer has it."""

    RUNNING = "running"
    WAITING = "waiting"
    RESTORING = "restoring"
    STOPPED = "stopped"
    NOBODY = "nobody"


class NoteLevel(StrEnum):
    """How much a note matters: BAD needs somebody now, ODD will pass or can wait."""

    BAD = "bad"
    ODD = "odd"


class Flow(Struct, frozen=True, kw_only=True):
    """How much flows, and how fast, since the look before.

    Attributes:
        decisions: since the gates started.
        lag_records: inputs that wait; a gate counts them every 5 s.
        decision_p50_s, decision_p99_s: from the log time of a batch's oldest input to the commit.
        commit_p50_s, commit_p99_s: from the begin of a transaction to its commit.
    """

    decisions: int = 0
    decisions_per_s: float | None = None
    lag_records: int | None = None
    decision_p50_s: float | None = None
    decision_p99_s: float | None = None
    commit_p50_s: float | None = None
    commit_p99_s: float | None = None


class GateRules(Struct, frozen=True, order=True):
    """The definition by which a gate decides an entity type; the digest tells rules of one version apart."""

    version: int
    digest: str = ""


class Gate(Struct, frozen=True, kw_only=True):
    """One instance.

    Attributes:
        gate: its name, PLACET_INSTANCE; "" when it never answered.
        rules: what it decides by, by entity type.
        unrunnable: entity types that it leaves to others, as it can't run their definition in force.
        silent_s: how long it has not answered; None for one that does.
        error: why not.
        up_s: age of its process.
        cpu_share: 1.0 is one core.
    """

    endpoint: str
    app: str = ""
    gate: str = ""
    version: str = ""
    rules: dict[str, GateRules] = {}
    unrunnable: tuple[str, ...] = ()
    silent_s: float | None = None
    error: str = ""
    up_s: float | None = None
    restarted: bool = False
    flow: Flow = Flow()
    running: int = 0
    waiting: int = 0
    restoring: int = 0
    stopped: int = 0
    aborted: int = 0
    cpu_share: float | None = None
    memory_bytes: int | None = None


class OutcomeRate(Struct, frozen=True, kw_only=True):
    """One outcome with one reason, of all gates; counts are since they started, `share` is of the last look's."""

    outcome: str
    reason: str
    facts: int
    proposals: int
    timers: int = 0
    facts_per_s: float | None = None
    proposals_per_s: float | None = None
    timers_per_s: float | None = None
    share: float | None = None


class Restore(Struct, frozen=True, kw_only=True):
    """A restore under way: records read, offsets ahead, and how long that takes at the pace of the last look."""

    read_records: int
    ahead_records: int | None = None
    share: float | None = None
    left_s: float | None = None


class Partition(Struct, frozen=True, kw_only=True):
    """One task, wherever it runs.

    Attributes:
        timer_overdue_s: how long its next timer is due already; a gate looks every 5 s.
        schema: the one that its next input waits for, "" where it waits for none; `schema_wait_s`: for how long.
    """

    app: str
    entity: str
    partition: int
    phase: PartitionPhase
    gates: tuple[str, ...] = ()
    decisions_per_s: float | None = None
    lag_records: int | None = None
    timer_overdue_s: float = 0.0
    schema: str = ""
    schema_wait_s: float = 0.0
    restore: Restore | None = None


class Note(Struct, frozen=True, kw_only=True):
    """A sentence on what an operator should look at."""

    level: NoteLevel
    text: str


class Frame(Struct, frozen=True, kw_only=True):
    """One moment of all gates that were asked.

    Attributes:
        at: ISO 8601, UTC.
        window_s: what the rates and percentiles cover; None on the first look.
        history: decisions a second, of this look and those before, the oldest first.
    """

    at: str
    window_s: float | None
    apps: tuple[str, ...]
    answering: int
    total: Flow
    accepted_share: float | None
    refused_facts: int
    history: tuple[float, ...]
    notes: tuple[Note, ...]
    gates: tuple[Gate, ...]
    outcomes: tuple[OutcomeRate, ...]
    partitions: tuple[Partition, ...]
