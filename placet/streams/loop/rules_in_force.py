"""The rules in force, as far as the control topic was read: which entity types this gate decides for, and how."""

from __future__ import annotations

from placet.streams.entity_type import EntityType
from placet.streams.loop.observer import Observer
from placet.streams.rules.control import Control

__all__ = ["RulesInForce"]


class RulesInForce:
    """Follows the control topic, and has the entity types as its newest record leaves them.

    Attributes:
        entity_types: by entity name.

    Args:
        entity_types: as the gate starts with them.
        control: the topic of rules, read to its end.
        observer: is told what is passed over.
    """

    def __init__(self, entity_types: dict[str, EntityType], control: Control, observer: Observer) -> None:
        self._control = control
        self._observer = observer
        self._taken_at = control.position
        self.entity_types = {name: kind.at(control.position) for name, kind in entity_types.items()}

    def follow(self) -> bool:
        """Take what was published meanwhile; only between two transactions. Tell whether there was anything."""
        for published, why in self._control.follow():
            told = {"entity": published.entity, "version": published.version, "why": why}
            self._observer.event("published version passed over", **told)
        if self._control.position == self._taken_at:
            return False
        self._taken_at = self._control.position
        self.entity_types = {name: kind.at(self._taken_at) for name, kind in self.entity_types.items()}
        return True

    def close(self) -> None:
        """Give the reader of the topic back."""
        self._control.close()
