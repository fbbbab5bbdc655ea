"""Another gate of our name: found before we fence it, and named when it fenced us.

Two producers of one transactional id fence each other without end, and each looks ill. The consumer group tells them
apart: its members carry their client's id, which is made of app and instance, and an id that is theirs alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from placet.schemas.errors import PlacetError, SettingsError
from placet.streams.loop.observer import Observer
from placet.streams.runtime import Flag

__all__ = ["GroupMember", "Namesake"]

MARGIN_S: Final = 2.0
"""How much longer than its session a dead member is waited for: the broker looks at sessions now and then."""
_SESSIONS: Final = 4
"""A dead member is listed for one session after its coordinator loaded the group: that one does not know when members
were heard of last (KIP-848). A change of coordinators that is seen starts the count anew; the other sessions are for a
coordinator that is started again so fast that a question only takes a little longer."""
_LOOK_AGAIN_S: Final = 0.1


class GroupMember(Protocol):
    """A member of a consumer group, as its coordinator lists it."""

    member_id: str
    client_id: str
    host: str  # with a slash before it


class Namesake:
    """Looks into the group for members with our client id that are not us.

    A group that can't be looked at is no reason to stop: the gate goes on, and a fence will tell.

    Args:
        group: asks the group's coordinator for its own broker id and the members; bounded in time; raises
            `PlacetError`.
        client_id: what our consumer calls itself.
        instance: the gate's name, for people.
        session_s: the group's session timeout.
        static: whether membership is static. Such a member stays listed after it has left in good order, and Kafka
            admits its successor at once, but no second one: so a static gate is told by Kafka, and does not wait.
        observer: is told what is waited for.
        monotonic_s: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        group: Callable[[], tuple[int, list[GroupMember]]],
        client_id: str,
        instance: str,
        session_s: float,
        observer: Observer,
        monotonic_s: Callable[[], float],
        *,
        static: bool,
    ) -> None:
        self._group = group
        self._client_id = client_id
        self._instance = instance
        self._session_s = session_s
        self._patience_s = _SESSIONS * session_s + MARGIN_S
        self._observer = observer
        self._monotonic_s = monotonic_s
        self._static = static
        self._own: set[str] = set()
        self._coordinator = -1
        self._listed_since_s: dict[str, float] = {}  # by this coordinator, without a gap
        self._looked_at_s = 0.0

    def wait(self, stopping: Flag, awake: Callable[[], None]) -> None:
        """Wait, before joining, until no member has our name: a predecessor that was killed goes with its session.

        Args:
            stopping: ends the waiting.
            awake: is called at each look.

        Raises:
            SettingsError: it is still there after its session: another gate, alive.
        """
        if self._static:
            return
        others = self._others() or []
        if others:
            self._observer.event(
                "waiting for a gate of this name to leave the group",
                host=others[0].host.lstrip("/"),
                at_most_s=self._patience_s,
            )
        while others:
            self._refuse_the_living(others)
            awake()
            if stopping.wait(_LOOK_AGAIN_S):
                return
            found = self._others()
            others = others if found is None else found

    def look(self, own_id: str, *, fenced: bool) -> None:
        """Look whose fault it is that we are out of the group, once our consumer has left it.

        Args:
            own_id: the member id that our consumer had.
            fenced: whether a newer producer of our name fenced ours. If not, a member of our name may be a dead one.

        Raises:
            SettingsError: another gate of our name is at work.
        """
        self._own.add(own_id)
        others = self._others() or []
        if fenced and others:
            raise self._taken_by(others[0])
        self._refuse_the_living(others)

    def _others(self) -> list[GroupMember] | None:
        """Return the members of our name; None where the group can't be asked: then all of them get a new session."""
        now_s, before_s = self._monotonic_s(), self._looked_at_s
        try:
            coordinator, members = self._group()
        except PlacetError as error:
            self._observer.event("could not look for gates of this name", why=str(error))
            self._listed_since_s.clear()
            return None
        if coordinator != self._coordinator or now_s - before_s > self._session_s:
            self._listed_since_s.clear()
        self._coordinator, self._looked_at_s = coordinator, now_s
        others = [one for one in members if one.client_id == self._client_id and one.member_id not in self._own]
        self._listed_since_s = {one.member_id: self._listed_since_s.get(one.member_id, now_s) for one in others}
        return others

    def _refuse_the_living(self, others: list[GroupMember]) -> None:
        now_s = self._monotonic_s()
        for other in others:
            if now_s - self._listed_since_s.get(other.member_id, now_s) > self._patience_s:
                raise self._taken_by(other)

    def _taken_by(self, other: GroupMember) -> SettingsError:
        host = other.host.lstrip("/")
        return SettingsError(
            f'another gate is called "{self._instance}" (host {host}). Each gate needs a name of its own, for '
            "its transactions: give this one another with --instance or PLACET_INSTANCE, or stop the other one."
        )
