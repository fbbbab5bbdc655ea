"""The gate's decision on an input, with its outcome and its reason. The numbers of both are pinned.

Every input gets exactly one decision. A refusal is a value, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, final

from placet.schemas.messages import Kind

__all__ = [
    "BY_DESIGN",
    "NOT_BEFORE",
    "OF_THE_CONTRACT",
    "REASONS",
    "Conflict",
    "Coordinates",
    "Decision",
    "Fired",
    "First",
    "Outcome",
    "Reason",
    "ReasonText",
    "Resolved",
    "Retry",
]


class Outcome(IntEnum):
    """The result of a decision. The numbers are pinned and never reused."""

    ACCEPTED = 1
    DUPLICATE = 2
    REFUSED = 3
    PENDING = 4


class Retry(IntEnum):
    """Whether sending again can help: NEVER; RECOMPUTE, after reading and thinking again; LATER, the same input."""

    NEVER = 0
    RECOMPUTE = 1
    LATER = 2


class Reason(IntEnum):
    """The reason of an outcome. The numbers are pinned, grouped by the rung of the ladder, and never reused."""

    NONE = 0
    UNDECODABLE = 101
    UNKNOWN_SCHEMA = 102
    WRONG_PARTITION = 103
    KEY_MISMATCH = 104
    INVALID_PAYLOAD = 105
    REPEATED = 201
    DEDUP_KEY_REUSED = 202
    TOO_LATE = 301
    CLOCK_AHEAD = 302
    EXPIRED = 401
    STATE_TOO_OLD = 402
    NOT_AUTHORIZED = 501
    RATE_LIMITED = 601
    SHED = 602
    ILLEGAL_TRANSITION = 701
    IGNORED = 702
    STALE = 801
    VERSION_AHEAD = 802
    SUPERSEDED = 901
    GUARD_FAILED = 1001
    GUARD_ERROR = 1002
    INVARIANT_VIOLATED = 1003
    STATE_TOO_LARGE = 1004
    NEEDS_APPROVAL = 1101


class ReasonText(NamedTuple):
    """One row of the table of reasons."""

    retry: Retry
    meaning: str
    todo: str


_N: Final = Retry.NEVER
_R: Final = Retry.RECOMPUTE
_L: Final = Retry.LATER

REASONS: Final[dict[Reason, ReasonText]] = {
    Reason.NONE: ReasonText(_N, "Nothing stood against the input.", "Nothing: it is applied."),
    Reason.UNDECODABLE: ReasonText(
        _N,
        "The bytes are no record of the contract.",
        "Encode with the schemas of `placet schemas export`; the bytes are kept in the dead letters.",
    ),
    Reason.UNKNOWN_SCHEMA: ReasonText(
        _L,
        "The record names a schema that neither the control topic nor the registry knows.",
        "Publish the definition that has this contract, then send again; the bytes are kept in the dead letters.",
    ),
    Reason.WRONG_PARTITION: ReasonText(
        _N,
        "The key does not belong to this partition: a second owner could act on the entity.",
        "Produce with the partitioner `murmur2_random` (Java's default) and the entity id as key.",
    ),
    Reason.KEY_MISMATCH: ReasonText(
        _N, "The record's key is not the entity id in the record.", "Use the entity id, as plain UTF-8, as key."
    ),
    Reason.INVALID_PAYLOAD: ReasonText(
        _N,
        "The record decodes, but a field breaks the contract: an unknown name, another payload, a size.",
        "Mend the producer; `detail` names the field. If it has newer rules than those that decided, send again later.",
    ),
    Reason.REPEATED: ReasonText(
        _N,
        "The same occasion was applied before; `first` tells by which input and at which version.",
        "Nothing: it was applied once, and once only.",
    ),
    Reason.DEDUP_KEY_REUSED: ReasonText(
        _N,
        "The dedup key was used before with another name or payload.",
        "Use a new key for a new occasion; a retry sends the same payload.",
    ),
    Reason.TOO_LATE: ReasonText(
        _R,
        "It was issued longer ago than the horizon: it cannot be proved new.",
        "Read the state again and propose anew under a new key.",
    ),
    Reason.CLOCK_AHEAD: ReasonText(
        _L, "`issued_at` lies in the future of the log.", "Set the producer's clock, then send again."
    ),
    Reason.EXPIRED: ReasonText(
        _R, "It was valid until a time that had passed when it was decided.", "Read again and propose anew."
    ),
    Reason.STATE_TOO_OLD: ReasonText(
        _R, "It is based on a state that was read too long ago, or does not say when.", "Read again and propose anew."
    ),
    Reason.NOT_AUTHORIZED: ReasonText(
        _N, "The proposer may not propose this.", "Ask the owner of the definition for the right."
    ),
    Reason.RATE_LIMITED: ReasonText(_L, "A limit is reached; `detail` names it.", "Send again; `detail` says when."),
    Reason.SHED: ReasonText(_L, "The gate is overloaded and let go of low priorities first.", "Send again later."),
    Reason.ILLEGAL_TRANSITION: ReasonText(
        _R,
        "The definition has no transition of this name from the entity's status.",
        "Read the state again: the entity is elsewhere than was thought.",
    ),
    Reason.IGNORED: ReasonText(
        _N,
        "The definition has no transition for this fact from the entity's status, and says `elsewhere: ignore`.",
        "Nothing: it left no trace. A fact of this name that comes in another status is judged afresh.",
    ),
    Reason.STALE: ReasonText(
        _R,
        "The state changed since the version that the proposal was based on; `conflicts` names what.",
        "Read the state again and think again.",
    ),
    Reason.VERSION_AHEAD: ReasonText(
        _R,
        "The base version lies above the current one: it was never read from committed state.",
        "Read with isolation.level=read_committed and propose anew.",
    ),
    Reason.SUPERSEDED: ReasonText(
        _N, "A newer fact of the same name was applied already.", "Nothing: the newer fact counts."
    ),
    Reason.GUARD_FAILED: ReasonText(
        _R, "No transition's guard holds; `detail` shows the guards.", "Read the state again; propose what fits."
    ),
    Reason.GUARD_ERROR: ReasonText(
        _N,
        "A guard, a value or an invariant could not be evaluated, so the input is refused.",
        "Mend the definition or the payload; `detail` shows the expression.",
    ),
    Reason.INVARIANT_VIOLATED: ReasonText(
        _R, "The new state would break an invariant; `detail` names it.", "Read again; propose what keeps it."
    ),
    Reason.STATE_TOO_LARGE: ReasonText(
        _N, "The new state would be larger than the limit.", "Keep large documents elsewhere and refer to them."
    ),
    Reason.NEEDS_APPROVAL: ReasonText(_N, "A person has to agree first.", "Wait: the decision follows."),
}


NOT_BEFORE: Final = "; not before "
OF_THE_CONTRACT: Final = frozenset({Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA, Reason.INVALID_PAYLOAD})
"""What depends on the contract of the version that decided, and on nothing else."""

BY_DESIGN: Final = frozenset({Reason.IGNORED, Reason.SUPERSEDED})
"""Refusals of facts that a definition asks for (`elsewhere: ignore`, `late`, `dedup: newest`): nobody is alarmed."""


class First(NamedTuple):
    """The first input of an occasion, as a duplicate's decision names it."""

    input_id: str
    version: int
    log_time: int


class Conflict(NamedTuple):
    """A change after the version that a stale proposal is based on: its version, and the fields that it set last."""

    version: int
    fields: tuple[str, ...]


class Resolved(NamedTuple):
    """The input that a final decision resolves, and so its PENDING decision: topic and offset."""

    topic: str
    offset: int


class Fired(NamedTuple):
    """The armed timer that a decision is on: the life in which it was armed, and the version that armed it."""

    incarnation: int
    armed: int


@final
@dataclass(init=False)
class Decision:
    """The decision on one input: everything that follows from state, input, times and definition alone.

    No part of the record is `by_other_rules`: a client says so where it goes by other rules than those that decided.
    """

    outcome: Outcome
    reason: Reason
    kind: Kind
    name: str
    input_id: str
    entity_id: str
    dedup_key: str
    payload_digest: bytes
    changed: bool
    version_before: int
    version_after: int
    incarnation: int
    status_before: str
    status_after: str
    detail: str
    first: First | None
    conflicts: tuple[Conflict, ...]
    resolves: Resolved | None
    timer: Fired | None
    by_other_rules: bool

    def __init__(
        self,
        outcome: Outcome,
        reason: Reason,
        kind: Kind,
        name: str,
        input_id: str,
        entity_id: str,
        dedup_key: str,
        payload_digest: bytes,
        changed: bool,  # noqa: FBT001  a column as the others
        version_before: int,
        version_after: int,
        incarnation: int,
        status_before: str,
        status_after: str,
        detail: str = "",
        first: First | None = None,
        conflicts: tuple[Conflict, ...] = (),
        resolves: Resolved | None = None,
        timer: Fired | None = None,
        by_other_rules: bool = False,  # noqa: FBT001  said by readers, no column
    ) -> None:
        self.outcome = outcome
        self.reason = reason
        self.kind = kind
        self.name = name
        self.input_id = input_id
        self.entity_id = entity_id
        self.dedup_key = dedup_key
        self.payload_digest = payload_digest
        self.changed = changed
        self.version_before = version_before
        self.version_after = version_after
        self.incarnation = incarnation
        self.status_before = status_before
        self.status_after = status_after
        self.detail = detail
        self.first = first
        self.conflicts = conflicts
        self.resolves = resolves
        self.timer = timer
        self.by_other_rules = by_other_rules

    @property
    def retry(self) -> Retry:
        """Whether sending again can help. What one version of the rules can't read, another one may."""
        return Retry.LATER if self.by_other_rules and self.reason in OF_THE_CONTRACT else REASONS[self.reason].retry

    @property
    def not_before(self) -> int | None:
        """The log time, in ms, before which a RATE_LIMITED one is refused again: what `detail` says last, if known."""
        time = self.detail.rpartition(NOT_BEFORE)[2] if self.reason is Reason.RATE_LIMITED else ""
        return int(time) if time.isascii() and time.isdigit() else None

    @property
    def applied(self) -> bool:
        """Whether the input counts: accepted now, or a repeat of an accepted one. Callers should test this."""
        return self.outcome is Outcome.ACCEPTED or self.reason is Reason.REPEATED


@final
@dataclass(init=False)
class Coordinates:
    """Where and when a decision was taken: the recorded choices that a replay needs.

    `topic` and `offset` are the input's, or those of the record that released it (`Decision.resolves`); a timer has
    none, "" and -1 (`Decision.timer`). `log_time` is the broker's append time, made monotone per task. `decided_at` is
    the gate's clock for the batch. Times are milliseconds since the epoch. `sequence` is the transaction's number,
    which goes on over task epochs; `index` is the order in it. `control_position` is the position on the control topic:
    the next offset to read.
    """

    topic: str
    partition: int
    offset: int
    log_time: int
    decided_at: int
    task_epoch: int
    sequence: int
    index: int
    definition_digest: bytes
    control_position: int

    def __init__(
        self, topic: str, partition: int, offset: int, log_time: int, decided_at: int, task_epoch: int, sequence: int,
        index: int, definition_digest: bytes, control_position: int,
    ) -> None:  # fmt: skip
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.log_time = log_time
        self.decided_at = decided_at
        self.task_epoch = task_epoch
        self.sequence = sequence
        self.index = index
        self.definition_digest = definition_digest
        self.control_position = control_position
