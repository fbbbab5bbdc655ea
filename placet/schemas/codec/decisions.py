"""Decisions as records, and back: column by column, for each input makes one. Tests compare them with their schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Final, final

from placet.schemas.avro.schema import parse_schema
from placet.schemas.avro.writer import (
    AttributesWriter,
    RepeatedLong,
    ShapeWriter,
    encoded_long,
    encoded_string,
    write_boolean,
    write_bytes,
    write_long,
    write_string,
    writer_of,
)
from placet.schemas.codec.contracts import DECISION
from placet.schemas.decision import REASONS, Conflict, Coordinates, Decision, Fired, First, Outcome, Reason, Resolved
from placet.schemas.errors import DecodeError
from placet.schemas.messages import Kind

__all__ = ["DECISION_BYTES_MAX", "DecisionWriter", "decision_of"]

DECISION_BYTES_MAX: Final = 65_536
"""Longest decision that is written as it is, in bytes; what is longer repeats a hostile input."""
_KINDS: Final = {kind: encoded_string(kind.name) for kind in Kind}
_TEXTS: Final = ("name", "input_id", "entity_id", "dedup_key", "detail")
_TEXT_MAX: Final = 512

_DECISION: Final = parse_schema(DECISION)
_AT: Final = len(fields(Coordinates))
_DECISION_NAMES: Final = [column.name for column in _DECISION.columns]

_VERDICTS: Final = {
    outcome: {
        reason: b"".join(
            (
                encoded_string(outcome.name),
                encoded_string(reason.name),
                encoded_long(reason),
                encoded_string(text.retry.name),
            )
        )
        for reason, text in REASONS.items()
    }
    for outcome in Outcome
}
"""The columns `outcome`, `reason`, `reason_code` and `retry`, which know few values together."""


def _decision_part(name: str) -> ShapeWriter:
    shape = next(column.shape for column in _DECISION.columns if column.name == name)
    return writer_of(shape, AttributesWriter)


_FIRST: Final = _decision_part("first")
_CONFLICTS: Final = _decision_part("conflicts")
_RESOLVES: Final = _decision_part("resolves")
_TIMER: Final = _decision_part("timer")
_NO_DETAIL: Final = encoded_string("")
_NOTHING_MORE: Final = b"".join(
    (_FIRST.encoded(None), _CONFLICTS.encoded(()), _RESOLVES.encoded(None), _TIMER.encoded(None))
)
"""The last columns of most decisions."""


@final
class DecisionWriter:
    """Writes decisions, column by column in the order of their schema.

    Args:
        head: what frames a record.
    """

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._batch = b""
        self._log_time = RepeatedLong()
        self._last: Coordinates | None = None

    def record(self, decision: Decision, at: Coordinates) -> bytes:
        """Return a decision's record: the columns of its coordinates, then its own.

        It always fits into a record, or a hostile input could never be decided: texts that only an input of more than
        `DECISION_BYTES_MAX` can have brought are cut.
        """
        own = _own_columns(decision)
        if len(own) > DECISION_BYTES_MAX:
            own = _own_columns(_with_short_texts(decision))
        out = [self._batch_columns(at)]
        write_long(out, at.index)
        write_long(out, at.offset)
        self._log_time.write(out, at.log_time)
        out.append(own)
        return b"".join(out)

    def _batch_columns(self, at: Coordinates) -> bytes:
        """Return the columns that are the same for all decisions of a transaction on one input topic."""
        last = self._last
        if last is None or not (
            at.sequence == last.sequence
            and at.topic == last.topic
            and at.partition == last.partition
            and at.task_epoch == last.task_epoch
            and at.decided_at == last.decided_at
            and at.definition_digest == last.definition_digest
            and at.control_position == last.control_position
        ):
            out = [self._head]
            write_string(out, at.topic)
            write_long(out, at.partition)
            write_long(out, at.task_epoch)
            write_long(out, at.sequence)
            write_long(out, at.decided_at)
            write_bytes(out, at.definition_digest)
            write_long(out, at.control_position)
            self._batch, self._last = b"".join(out), at
        return self._batch


def _own_columns(decision: Decision) -> bytes:
    out = [_KINDS[decision.kind]]
    write_string(out, decision.name)
    write_string(out, decision.input_id)
    write_string(out, decision.entity_id)
    write_string(out, decision.dedup_key)
    write_bytes(out, decision.payload_digest)
    out.append(_VERDICTS[decision.outcome][decision.reason])
    write_boolean(out, decision.changed)
    write_long(out, decision.version_before)
    write_long(out, decision.version_after)
    write_long(out, decision.incarnation)
    write_string(out, decision.status_before)
    write_string(out, decision.status_after)
    if decision.detail:
        write_string(out, decision.detail)
    else:
        out.append(_NO_DETAIL)
    first, conflicts, resolves, timer = decision.first, decision.conflicts, decision.resolves, decision.timer
    if first is None and not conflicts and resolves is None and timer is None:
        out.append(_NOTHING_MORE)
    else:
        _FIRST.write(out, first)
        _CONFLICTS.write(out, conflicts)
        _RESOLVES.write(out, resolves)
        _TIMER.write(out, timer)
    return b"".join(out)


def _with_short_texts(decision: Decision) -> Decision:
    texts = {name: getattr(decision, name)[:_TEXT_MAX] for name in _TEXTS}
    return replace(decision, **texts)


def decision_of(values: Sequence[Any]) -> tuple[Decision, Coordinates]:
    """Return the decision in a record's values.

    Raises:
        DecodeError: an outcome or a reason that this release does not know.
    """
    at = Coordinates(**dict(zip(_DECISION_NAMES[:_AT], values, strict=False)))
    own = dict(zip(_DECISION_NAMES[_AT:], values[_AT:], strict=False))
    del own["reason"], own["retry"]
    try:
        own["outcome"], own["kind"] = Outcome[own["outcome"]], Kind[own["kind"]]
        own["reason"] = Reason(own.pop("reason_code"))
    except (KeyError, ValueError) as error:
        raise DecodeError(f"a decision with an unknown outcome, kind or reason: {error}") from None
    own["first"] = First(**own["first"]) if own["first"] else None
    own["resolves"] = Resolved(**own["resolves"]) if own["resolves"] else None
    own["timer"] = Fired(**own["timer"]) if own["timer"] else None
    own["conflicts"] = tuple(Conflict(item["version"], tuple(item["fields"])) for item in own["conflicts"])
    return Decision(**own), at
