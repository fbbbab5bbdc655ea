"""What a task has to ask others for before it decides its next input: schemas that are not known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from placet.processors.judge import Verdict
from placet.schemas.decision import Reason
from placet.schemas.errors import UnknownSchema
from placet.streams.records import ConsumerRecord

__all__ = ["Asking"]


@final
class Asking:
    """Tells when a task has to wait for an answer, and what was asked for already.

    Attributes:
        number: counts waits; 0 while the task does not wait.
    """

    def __init__(self) -> None:
        self.number = self._count = 0
        self._asked_to: dict[str, int] = {}
        self._needed_by: tuple[str, int] | None = None

    def must_wait(self, record: ConsumerRecord, checked: Verdict) -> bool:
        """Tell whether an input of an unknown schema has to wait: nobody was asked since it was polled."""
        unknown = checked.decision.reason is Reason.UNKNOWN_SCHEMA
        if not unknown or record.offset < self._asked_to.get(record.topic, 0):
            return False
        self._wait()
        return True

    def wait_for_state(self, needed_by: tuple[str, int], error: UnknownSchema) -> None:
        """Wait for the schema of a state, once for whatever needs the state.

        Raises:
            UnknownSchema: it was waited for, in vain.
        """
        if self._needed_by == needed_by:
            raise error
        self._needed_by = needed_by
        self._wait()

    def go_on(self, asked_to: Mapping[str, int]) -> None:
        """Wait no longer. Up to these positions whoever may know the schemas of inputs was asked."""
        self.number, self._asked_to = 0, dict(asked_to)

    def discard(self) -> None:
        """Forget all: the inputs are polled anew."""
        self.number, self._asked_to, self._needed_by = 0, {}, None

    def _wait(self) -> None:
        self._count += 1
        self.number = self._count
