"""The errors that a caller of the client has to react to. A refused proposal is no error: it is a `Decision`.

PlacetError
├── NoOccasion        the proposal names no occasion: nothing was sent; correct the call
├── DecisionTimeout   no decision came in time: propose again with the same key, it is applied once at most
├── ReadTimeout       the state did not arrive, or not in that version: read again, or look at the gate
├── NotDelivered      the record may or may not be on the log: send it again with the same id or key
└── NotConnected      the client is not open, or its thread ended; its text names the cause
"""

from __future__ import annotations

from placet.schemas.errors import PlacetError

__all__ = ["DecisionTimeout", "NoOccasion", "NotConnected", "NotDelivered", "ReadTimeout"]


class NoOccasion(PlacetError):
    """A proposal without an occasion could be applied twice. Raised before anything is sent.

    Args:
        name: the proposal's.
        key, cause: what names the occasion, as the caller writes it.
    """

    def __init__(self, name: str, key: str = "dedup_key=", cause: str = "caused_by=") -> None:
        super().__init__(
            f"`{name}` names no occasion: after a lost reply nobody could tell your second try from a second wish, and "
            f"it would be applied twice. Give {key} (what it is about, such as a ticket's id) or {cause} (the "
            "signal or task that made you think), or let the definition compute it (`dedup: once`, `dedup: [field]`)."
        )


class DecisionTimeout(PlacetError, TimeoutError):
    """No decision came in time. The gate may decide on the input later, or may have decided already.

    Attributes:
        input_id: the input's id; `placet explain` shows the decision on it.

    Args:
        name, input_id, entity_id: the input's.
        timeout_s: how long it was waited for.
        unread: why a decision could not be read, if there was such a one.
    """

    def __init__(self, name: str, input_id: str, entity_id: str, timeout_s: float, unread: str = "") -> None:
        self.input_id = input_id
        later = f" A decision came that this release can't read, and it may be that one: {unread}." if unread else ""
        super().__init__(
            f"no decision on `{name}` ({input_id}) of {entity_id} within {timeout_s:g} s. Proposing again with the "
            "same dedup key is safe: the occasion is applied once at most, and a repeat gets the first one's decision."
            f"{later}"
        )


class ReadTimeout(PlacetError, TimeoutError):
    """The state did not arrive in time, or not in the version that was asked for."""


class NotDelivered(PlacetError):
    """The brokers did not confirm the record. Sending it again with the same id and key is safe."""


class NotConnected(PlacetError):
    """The client is not open. Use `with Client(…)`, `async with AsyncClient(…)`, or `open()`."""
