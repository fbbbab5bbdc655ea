"""Asks the live gates whether they can run what is about to be published, before it is.

    publisher ── candidate ──► <app>.gates ──► each gate compiles it ── answer ──► <app>.gates ──► publisher

Live is who the group lists: a gate that was killed is waited for until its session ends. A gate of a release that does
not know the question never answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from placet.schemas.codec.control import Published
from placet.schemas.codec.gates import GateAnswer, candidate_key, decode_answer
from placet.schemas.errors import DecodeError, PlacetError, SettingsError
from placet.streams.errors import LogUnreachable
from placet.streams.kafka.log_reader import LogReader
from placet.streams.records import TopicPartition
from placet.streams.rules.control import record_of
from placet.streams.rules.publication import Forced
from placet.streams.runtime import Runtime

__all__ = ["Answered", "LiveGates", "check_answers"]

_LOOK_EVERY_S: Final = 0.1
_LIST_EVERY_S: Final = 1.0
_TELL_AFTER_S: Final = 2.0
_COORDINATOR_S: Final = 20.0
"""How long the group's coordinator may take to answer: another one may be elected."""
_ASK_EVERY_S: Final = 3.0
"""A gate that has just joined, and one whose leader was away, has not heard the first time."""
_ADVICE: Final = (
    "Run the release with its code on all gates first, and publish then; or publish with --force (PLACET_FORCE=true): "
    "gates that can't run it leave the entity type to others."
)
_Key = tuple[str, str]


class Answered(NamedTuple):
    """What a gate said of a candidate. `why_not` is "" where it can run it."""

    gate: str
    entity: str
    version: int
    why_not: str


class LiveGates:
    """Asks, and waits for the answers.

    Args:
        runtime: a clock.
        reader: reads the topic.
        partition: the topic's.
        position: its end, before anything is asked.
        produce: writes key and value to it, durably.
        members: asks the group for the client ids of its members; raises `PlacetError`.
        app: prefix of the client ids.
        own: our own client id, whose earlier process may still be listed; "" for who is no gate.
        waits_for: is told which gates have not answered, when these change.
        looked: is called again and again meanwhile.
    """

    def __init__(
        self,
        runtime: Runtime,
        reader: LogReader,
        partition: TopicPartition,
        position: int,
        produce: Callable[[bytes, bytes], None],
        members: Callable[[], Iterable[str]],
        app: str,
        own: str,
        waits_for: Callable[[Sequence[str]], None],
        looked: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._reader = reader
        self._partition, self._position = partition, position
        self._produce = produce
        self._group = members
        self._app, self._own = app, own
        self._waits_for = waits_for
        self._looked = looked
        self._follows = False
        self._live: set[str] = set()

    def ask(self, candidates: Sequence[Published], patience_s: float) -> list[Answered]:
        """Ask for all candidates, and wait until each live gate has answered or is none any more.

        Args:
            candidates: what is about to be published.
            patience_s: how long, from when the group could be looked at.

        Raises:
            SettingsError: a candidate is too large.
            PlacetError: the group can't be looked at, or nobody takes the question.
        """
        self._look_at_the_group()
        keys = {(one.entity, one.digest.hex()): one for one in candidates}
        answers: dict[tuple[str, _Key], GateAnswer] = {}
        began_s = list_at_s = ask_at_s = self._runtime.monotonic_s()
        told: list[str] = []
        while silent := sorted({gate for gate in self._live for key in keys if (gate, key) not in answers}):
            now_s = self._runtime.monotonic_s()
            if now_s > began_s + patience_s:
                break
            if now_s >= ask_at_s:
                ask_at_s = now_s + _ASK_EVERY_S
                self._ask(candidates)
            if now_s > began_s + _TELL_AFTER_S and silent != told:
                told = silent
                self._waits_for([self._name(gate) for gate in silent])
            self._looked()
            self._runtime.sleep(_LOOK_EVERY_S)
            answers.update(self._take(keys))
            if now_s >= list_at_s:
                list_at_s = now_s + _LIST_EVERY_S
                with suppress(PlacetError):  # asked again
                    self._live = self._listed()
        return self._answered(keys, answers, patience_s)

    def _look_at_the_group(self) -> None:
        until_s = self._runtime.monotonic_s() + _COORDINATOR_S
        while True:
            try:
                self._live = self._listed()
            except PlacetError:
                if self._runtime.monotonic_s() > until_s:
                    raise
                self._looked()
                self._runtime.sleep(_LIST_EVERY_S)
            else:
                return

    def _listed(self) -> set[str]:
        return set(self._group()) - {self._own}

    def _ask(self, candidates: Iterable[Published]) -> None:
        for one in candidates:
            self._produce(candidate_key(one.entity, one.digest), record_of(one))

    def _take(self, keys: Collection[_Key]) -> Mapping[tuple[str, _Key], GateAnswer]:
        """Take what was answered since the first question: earlier answers may not be true any more."""
        found: dict[tuple[str, _Key], GateAnswer] = {}
        try:
            if not self._follows:
                self._reader.follow(self._partition, self._position)
                self._follows = True
            records, _ = self._reader.take_new()
        except LogUnreachable:
            self._follows = False
            return found
        for record in records:
            self._position = record.offset + 1
            try:
                answer = decode_answer(record.key, record.value)
            except DecodeError:
                continue
            if answer is not None and (key := (answer.entity, answer.digest)) in keys:
                found[answer.gate, key] = answer
        return found

    def _answered(
        self, keys: Mapping[_Key, Published], answers: Mapping[tuple[str, _Key], GateAnswer], patience_s: float
    ) -> list[Answered]:
        silent = (
            f"it did not answer within {patience_s:g} s: it stands still, may not use {self._partition.topic}, or is "
            "of a release that does not know the question"
        )
        return [
            Answered(self._name(gate), one.entity, one.version, _why(answers.get((gate, key)), silent))
            for key, one in keys.items()
            for gate in sorted(self._live)
        ]

    def _name(self, gate: str) -> str:
        return gate.removeprefix(f"{self._app}.")


def _why(answer: GateAnswer | None, silent: str) -> str:
    if answer is None:
        return silent
    return f"{answer.why_not} (release {answer.release}, ladder {answer.ladder})" if answer.why_not else ""


def check_answers(answered: Iterable[Answered], *, force: bool) -> list[Forced]:
    """Refuse what a live gate can't run.

    Returns:
        What is published all the same, where it is forced.

    Raises:
        SettingsError: a gate can't run it; nothing was published.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for one in answered:
        if one.why_not:
            found.setdefault((one.entity, one.version), []).append(f"  {one.gate}: {one.why_not}")
    forced = [
        Forced(entity, version, "\n".join(["live gates can't run it, and leave it to others:", *lines]))
        for (entity, version), lines in found.items()
    ]
    if forced and not force:
        heads = [
            f"definition {entity} version {version} is not published: not every live gate can run it:"
            for entity, version in found
        ]
        lines = [line for head, each in zip(heads, found.values(), strict=True) for line in (head, *each)]
        raise SettingsError("\n".join([*lines, _ADVICE]))
    return forced
