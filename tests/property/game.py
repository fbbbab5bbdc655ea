"""Plays a history on the gate (through the test driver) and on the naive model, and compares them after each batch."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any, Final

from placet.processors.address import partition_of
from placet.schemas.definition.model import parse_definition
from placet.schemas.messages import Kind, Message
from placet.testing import Decided, TestDriver
from tests.model.naive import AHEAD_MAX_MS, NaiveGate
from tests.property.strategies import HORIZON_MS, PAYLOAD, Dice, as_yaml

__all__ = ["ENTITIES", "Game", "compact"]

ENTITIES: Final = ("order-1", "order-2", "ord/3")
PARTITIONS: Final = 2
_STEPS: Final = ("nothing", *["send"] * 14, *["again"] * 6, "poison", "poison", "jump", "jump", "restart")
_TICKS_MS: Final = (0, 0, 1, 1_000, 10_000)
_ISSUED_MS: Final = (*[0] * 16, -1_000, -1_000, -31_000, -HORIZON_MS, -HORIZON_MS - 1, 60_000, 60_001)
_HAPPENED_MS: Final = (*[0] * 12, -10, -10, -5_000, -5_000, -1_000_000, 60_000, 60_001)
_JUMPS_MS: Final = (1_000, 31_000, 61_000, 300_000, 599_999, 600_001, 660_000, 660_001, 1_400_000)


class Game:
    """One definition, the gate and the model side by side.

    Args:
        rules: the definition as data.
        calm: without restarts and without jumps over the horizon, so that nothing expires.
        still: time does not move at all.
        compacted: restores see only what a cleaner must leave.
    """

    def __init__(
        self, rules: dict[str, Any], *, calm: bool = False, still: bool = False, compacted: bool = False
    ) -> None:
        self.rules = rules
        self._calm, self._still = calm or still, still
        self.driver = TestDriver(parse_definition(as_yaml(rules)), partitions=PARTITIONS)
        self._compacted = compacted
        self.models = [NaiveGate(rules) for _ in range(PARTITIONS)]
        self.reasons: list[str] = []
        self._sent: list[dict[str, Any]] = []
        self._waiting: dict[tuple[str, int, int], tuple[dict[str, Any], int]] = {}

    def play(self, history: list[bytes]) -> None:
        """Play all steps, decide what waits in the end, and compare the states."""
        for step in history:
            dice = Dice(step)
            getattr(self, f"_{dice.pick(_STEPS)}")(dice)
        self._decide()
        self.compare_states()

    def compare_states(self) -> None:
        """Every entity's state is the model's."""
        for entity_id in ENTITIES:
            state = self.driver.read(entity_id)
            expected = self._model(entity_id).entity(entity_id)
            fields = state.fields or self.models[0].initial_fields()
            changed_at = dict(state.field_versions)
            reborn_at = changed_at.pop("", 0)
            found = (state.status, state.version, state.incarnation, fields, changed_at, reborn_at, state.deleted_at)
            names = ("status", "version", "incarnation", "fields", "changed_at", "reborn_at", "deleted_at")
            assert found == tuple(expected[name] for name in names), (entity_id, found, expected)

    # Steps ------------------------------------------------------------------------------------------------------------

    def _nothing(self, dice: Dice) -> None:
        pass

    def _send(self, dice: Dice) -> None:
        entity = dice.pick(ENTITIES)
        status, inputs = self._model(entity).entity(entity)["status"], self.rules["inputs"]
        legal = [name for name, rule in inputs.items() if self.models[0].transitions(rule, status)]
        name = dice.pick(dice.pick((legal, legal, legal, legal, ())) or list(inputs))
        self._put(dice, self._filled(dice, name, entity))

    def _filled(self, dice: Dice, name: str, entity: str) -> dict[str, Any]:
        now, number = self.driver.now_ms, len(self._sent)
        kind = self.rules["inputs"][name]["kind"]
        seen = self._model(entity).entity(entity)
        issued_at = now + dice.pick(_ISSUED_MS)
        event_time = now + dice.pick(_HAPPENED_MS)
        proposal = kind == "PROPOSAL"
        return {
            "kind": kind,
            "name": name,
            "entity": entity,
            "id": f"id-{number}",
            "payload": {
                "x": dice.pick((1, 0, 2, 3, 5, -1, 2**31 - 1)),
                "n": dice.pick((1, 1, 0, 4)),
                "o": dice.pick((None, 0, 3, 7)),
                "note": dice.pick((None, "x", "ann")),
            },
            "key": dice.pick((*[f"key-{number}"] * 6, "key-a", "key-b", None, None, None, "id-1")),
            "caused_by": dice.pick((None, "cause-1", "cause-2")),
            "issued_at": issued_at,
            "event_time": issued_at if proposal else event_time,
            "valid_until": dice.pick((None, None, None, None, now + 10_000, now + 10_000, now, now - 1))
            if proposal
            else None,
            "read_at": dice.pick((*[now] * 6, now - 30_000, now - 30_001, now + 60_000, now + 60_001, None)),
            "base_version": max(seen["version"] + dice.pick((*[0] * 8, -1, -1, -2, 1)), 0) if proposal else 0,
            "base_incarnation": dice.pick((*[seen["incarnation"]] * 8, None, None, 0, 7)) if proposal else 0,
            "proposer": dice.pick(("ann", "bob")),
        }

    def _again(self, dice: Dice) -> None:
        """Send something of before again, as it was or with a difference."""
        if not self._sent:
            return
        given = dict(self._sent[-1 - dice.pick(range(min(len(self._sent), 8)))])
        fresh = self._filled(dice, given["name"], given["entity"])
        for name in dice.pick(
            ((), (), ("id",), ("id", "base_version", "base_incarnation"), ("issued_at",), ("payload",))
        ):
            given[name] = fresh[name]
        if given["kind"] == "PROPOSAL":
            given["event_time"] = given["issued_at"]
        self._put(dice, given)

    def _poison(self, dice: Dice) -> None:
        """Send something that stops at the first rung."""
        given = self._filled(dice, dice.pick(list(self.rules["inputs"])), dice.pick(ENTITIES))
        key, value = given["entity"].encode(), self._encoded(given)
        partition = partition_of(key, PARTITIONS)
        kind = dice.pick(("bytes", "schema", "stray", "key", "name", "null", "cut", "long"))
        if kind in ("bytes", "null", "cut"):
            given["broken"] = "UNDECODABLE"
            value = {"bytes": b"{}", "null": None, "cut": value[:-1]}[kind]
        elif kind == "schema":
            given["broken"], value = "UNKNOWN_SCHEMA", value[:4] + bytes([value[4] ^ 1]) + value[5:]
        elif kind == "stray":
            given["stray"], partition = True, 1 - partition
        elif kind == "key":
            given["other_key"], key = True, b"someone-else"
            given["stray"] = partition_of(key, PARTITIONS) != partition
        elif kind == "name":
            value = value.replace(given["name"].encode(), given["name"].upper().encode())
            given["name"] = given["name"].upper()
        else:
            given["id"] = "i" * 129
            value = self._encoded(given)
        self._append(dice, given, key, value, partition)

    def _jump(self, dice: Dice) -> None:
        self._decide()
        self._advance(dice.pick(_TICKS_MS if self._calm else _JUMPS_MS))

    def _restart(self, dice: Dice) -> None:
        self._decide()
        if not self._calm:
            self.restart()

    def restart(self) -> None:
        """Restore everything, of a compacted log from the least that `min.compaction.lag.ms` promises."""
        if self._compacted:
            compact(self.driver, HORIZON_MS + AHEAD_MAX_MS)
        self.driver.restart()
        self.driver.advance(milliseconds=0)  # what expired meanwhile is deleted before anything else
        for model in self.models:
            model.restarted()
            model.end(self.driver.now_ms, idle=True)
        self._follow(self.driver.take_decided())  # timers that were due meanwhile

    # Gate and model ---------------------------------------------------------------------------------------------------

    def _model(self, entity_id: str) -> NaiveGate:
        return self.models[partition_of(entity_id.encode(), PARTITIONS)]

    def _advance(self, milliseconds: int) -> None:
        self.driver.advance(milliseconds=0 if self._still else milliseconds)
        busy = {partition for _, partition, _ in self._waiting}
        self._follow(self.driver.take_decided())
        for partition, model in enumerate(self.models):
            if partition not in busy:
                model.end(self.driver.now_ms, idle=True)
                assert not [name for entity in ENTITIES for name in model.overdue(entity, self.driver.now_ms)]

    def _encoded(self, given: dict[str, Any]) -> bytes:
        return self.driver.codec.encode_message(
            Message(
                Kind[given["kind"]],
                given["name"],
                given["id"],
                given["entity"],
                {name: given["payload"][name] for name in PAYLOAD},
                given["event_time"],
                given["issued_at"],
                given["key"],
                given["caused_by"],
                given["valid_until"],
                given["base_version"],
                given["base_incarnation"],
                proposer=given["proposer"],
                read_at=given["read_at"],
            )
        )

    def _put(self, dice: Dice, given: dict[str, Any]) -> None:
        self._sent.append(given)
        key = given["entity"].encode()
        self._append(dice, given, key, self._encoded(given), partition_of(key, PARTITIONS))

    def _append(self, dice: Dice, given: dict[str, Any], key: bytes, value: bytes | None, partition: int) -> None:
        place, offset = self.driver.append(Kind[given["kind"]], key, value, partition=partition)
        self._waiting[(*place, offset)] = given, self.driver.now_ms
        if dice.pick((True, True, False)):
            self._decide()
        else:
            self._advance(dice.pick(_TICKS_MS))  # what waits is taken in one batch, at different log times

    def _decide(self) -> None:
        """Let the gate decide what waits, and the model in the order that the gate recorded."""
        decided = self.driver.run()
        inputs = [found for found in decided if found.at.topic]
        assert len(inputs) == len(self._waiting), "each input gets exactly one decision"
        self._follow(decided)

    def _follow(self, decided: list[Decided]) -> None:
        """Let the model decide the same, in the order that the gate recorded."""
        for partition, model in enumerate(self.models):
            own = [found for found in decided if found.at.partition == partition]
            _assert_legal_order(own)
            for _, transaction in groupby(own, key=lambda found: found.at.sequence):  # one waits for an unknown schema
                found_together = list(transaction)
                only_timers = not any(found.at.topic for found in found_together)
                model.begin(found_together[0].at.decided_at if only_timers else self.driver.now_ms)
                for index, found in enumerate(found_together):
                    assert found.at.index == index
                    self._compare(model, found)
                model.end(self.driver.now_ms, idle=False)

    def _compare(self, model: NaiveGate, found: Decided) -> None:
        at, decision = found.at, found.decision
        timer = decision.timer
        if timer is not None:
            entity = model.entity(decision.entity_id)
            armed = (entity["incarnation"], entity["timers"][decision.name][1])
            assert (timer.incarnation, timer.armed) == armed, "a timer fires that is not armed"
            given = {"broken": "a timer"}
            expected = model.fire(decision.entity_id, decision.name, at.log_time)
        else:
            given, timestamp = self._waiting.pop((at.topic, at.partition, at.offset))
            if not model.first_rung(given):
                assert model.overdue(given["entity"], timestamp) == [], "a timer was due before this input"
            expected = model.take(given, timestamp)
        self.reasons.append(expected["reason"])
        verdict = {
            "outcome": decision.outcome.name,
            "reason": decision.reason.name,
            "first": tuple(decision.first) if decision.first else None,
            "conflicts": [(conflict.version, list(conflict.fields)) for conflict in decision.conflicts],
            "until": int(until[1]) if (until := re.search(r"; not before (\d+)$", decision.detail)) else None,
            "changed": decision.changed,
            "versions": (decision.version_before, decision.version_after),
            "statuses": (decision.status_before, decision.status_after),
            "incarnation": decision.incarnation,
        }
        assert verdict == expected, f"{given}\n{decision.detail}"
        assert bool(decision.detail) == (decision.outcome.name == "REFUSED")
        if "broken" not in given:
            assert (decision.input_id, decision.entity_id) == (given["id"], given["entity"])
        assert (at.log_time, at.decided_at, at.control_position) == (model.log_time, model.decided_at, 1)
        assert at.definition_digest == self.driver.machine.digest


def _assert_legal_order(decided: list[Decided]) -> None:
    """Per topic as it stands there, over all by log time."""
    for topic in {found.at.topic for found in decided if found.at.topic}:
        offsets = [found.at.offset for found in decided if found.at.topic == topic]
        assert offsets == sorted(offsets)
    times = [found.at.log_time for found in decided]
    assert times == sorted(times)


def compact(driver: TestDriver, lag_ms: int) -> None:
    """Let the cleaner take all that it may."""
    before_ms = driver.now_ms - lag_ms
    for topic in (driver.topics.changelog, driver.topics.ledger):
        for number in range(driver.partitions):
            log = driver._gate._cluster.log((topic, number))
            log.compact(before_ms=before_ms, tombstones_before_ms=before_ms)
