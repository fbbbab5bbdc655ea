"""What a task has to ask others for before it decides its next input: schemas that are not known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

from placet.processors.judge import Verdict
from placet.schemas.codec.wire import schema_id_of
from placet.schemas.decision import Reason
from placet.schemas.errors import UnknownSchema
from placet.streams.records import ConsumerRecord

__all__ = ["Asking"]

_HEAD_BYTES_MAX: Final = 10


@final
class Asking:
    """Tells when a task has to wait for an answer, and what was asked for already.

    Attributes:
        number: counts waits; 0 while the task does not wait.
        schema: the one that it waits for, or waited for last, for people.
        schema_id: the registry's id of that, None where it is a fingerprint.
    """

    def __init__(self) -> None:
        self.number = self._count = 0
        self.schema = ""
        self.schema_id: int | None = None
        self._asked_to: dict[str, int] = {}
        self._unanswered: frozenset[int] = frozenset()
        self._needed_by: tuple[str, int] | None = None

    def must_wait(self, record: ConsumerRecord, checked: Verdict) -> bool:
        """Tell whether an input of an unknown schema has to wait: nobody was asked since it was polled."""
        if checked.decision.reason is not Reason.UNKNOWN_SCHEMA:
            return False
        schema_id = schema_id_of(record.value)
        if record.offset < self._asked_to.get(record.topic, 0) and schema_id not in self._unanswered:
            return False
        head = (record.value or b"")[:_HEAD_BYTES_MAX].hex()
        self._wait(head if schema_id is None else f"id {schema_id}", schema_id)
        return True

    def wait_for_state(self, needed_by: tuple[str, int], error: UnknownSchema) -> None:
        """Wait for the schema of a state, once for whatever needs the state.

        Raises:
            UnknownSchema: it was waited for, in vain.
        """
        if self._needed_by == needed_by:
            raise error
        self._needed_by = needed_by
        self._wait("of a state" if error.schema_id is None else f"id {error.schema_id} of a state", error.schema_id)

    def go_on(self, asked_to: Mapping[str, int], unanswered: frozenset[int]) -> None:
        """Wait no longer.

        Args:
            asked_to: up to these positions whoever may know the schemas of inputs was asked.
            unanswered: the registry's ids to which no answer came.
        """
        self.number, self._asked_to, self._unanswered = 0, dict(asked_to), unanswered

    def discard(self) -> None:
        """Forget all: the inputs are polled anew."""
        self.number, self._asked_to, self._needed_by = 0, {}, None

    def _wait(self, schema: str, schema_id: int | None) -> None:
        self._count += 1
        self.number, self.schema, self.schema_id = self._count, schema, schema_id
