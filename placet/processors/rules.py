"""The rules that an input is judged by: a definition, the codec that reads and writes for it, a place on the log."""

from __future__ import annotations

from typing import final

from placet.processors.machine import Machine
from placet.schemas.codec.codec import Codec

__all__ = ["Rules"]


@final
class Rules:
    """What stays the same for all inputs of a transaction, and may be other rules in the next one.

    Attributes:
        machine: the compiled definition.
        codec: the bytes of its entity type.
        position: how far the control topic was read: what it holds from there on is not known yet.
    """

    def __init__(self, machine: Machine, codec: Codec, position: int = 0) -> None:
        self.machine = machine
        self.codec = codec
        self.position = position

    def at(self, position: int) -> Rules:
        """Return the same rules, with the control topic read further."""
        return Rules(self.machine, self.codec, position)
