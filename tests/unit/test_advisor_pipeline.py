"""The advisory pipeline in front of a real gate in memory: what it proposes, drops, gives up, and commits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from placet.advisor import Advice, Advisor, Drop, Limits, Signal
from placet.advisor.meter import Meter
from placet.advisor.pipeline import Pipeline
from placet.advisor.triggers import Reader
from placet.client.errors import DecisionTimeout, NotConnected, ReadTimeout
from placet.client.snapshot import Snapshot
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Decision
from placet.schemas.definition.model import parse_definition
from placet.schemas.errors import SettingsError
from placet.schemas.messages import Kind, Message
from placet.streams.errors import LogUnreachable
from placet.streams.records import ConsumerRecord
from placet.testing import START_MS, TestDriver

RULES = parse_definition("""
entity: order
version: 1
statuses: [open, held]
fields: {note: string | null}
signals:
  opened: {from: absent, to: open}
  seen: {from: any}
proposals:
  hold: {payload: {note: string}, transitions: [{from: open, to: held, copy: [note]}, {from: held, copy: [note]}]}
  open_again: {from: held, to: open}
""")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Answer:
    def __init__(self, decided: Decision | Exception) -> None:
        self._decided = decided

    async def decision(self, timeout_s: float) -> Decision:
        if isinstance(self._decided, Exception):
            raise self._decided
        return self._decided


class Desk:
    """An advisor at work: its signals are put on the log by hand, its client talks to a gate in memory."""

    def __init__(self, think: Any = None, *, taken: Callable[[], Awaitable[bool]] | None = None, **limits: Any) -> None:
        self.driver = TestDriver(RULES)
        self.meter = Meter("noter")
        self.counts = self.meter.counts
        self.codec = Codec(RULES)
        self.limits = Limits(**{"settle_s": 0, **limits})
        self.proposed: list[dict[str, Any]] = []
        self.silent_gate = 0
        self.unreadable = 0
        self.calls: list[tuple[str, int]] = []
        self.now_ms = START_MS
        self._think = think or hold
        self._taken = taken or _yes
        self._offset = 0
        self.rules_read = 0
        self.silent_broker = 0
        self.published: list[Any] = []

    async def read_rules(self) -> None:
        """Learn what was published meanwhile."""
        self.rules_read += 1
        if self.silent_broker:
            self.silent_broker -= 1
            raise LogUnreachable("nobody there")
        for definition in self.published:
            self.codec = Codec(definition)

    async def __aenter__(self) -> Desk:
        thinkers = {"opened": self.think, "seen": self.think}
        reader = Reader(lambda: self.codec, thinkers, self.meter.count)
        self.pipeline = Pipeline(
            self, reader, self.limits, lambda: 600_000, self.meter, lambda *_: self._taken(), lambda: self.now_ms
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pipeline.stop()
        if self.pipeline.failed.done():
            self.pipeline.failed.result()

    async def think(self, signal: Signal, order: Snapshot) -> Advice | None:
        self.calls.append((signal.signal_id, order.version))
        return await self._think(signal, order)

    async def read(self, entity_id: str) -> Snapshot:
        if self.unreadable:
            self.unreadable -= 1
            raise ReadTimeout("it takes too long")
        return Snapshot(entity_id, self.driver.read(entity_id))

    def propose(self, snapshot: Snapshot, name: str, payload: Any, **said: Any) -> Answer:
        self.proposed.append(said)
        if self.silent_gate:
            self.silent_gate -= 1
            return Answer(DecisionTimeout(name, "p", snapshot.entity_id, 1))
        keys = {key: said[key] for key in ("dedup_key", "caused_by")}
        return Answer(self.driver.propose(snapshot.entity_id, name, payload, base=snapshot.state, **keys))

    async def signal(self, entity: str, name: str = "opened", *, offset: int | None = None, generation: int = 1) -> int:
        """Put a signal on the log, let the gate decide on it, and hand it to the advisor; return its offset."""
        if offset is None:
            offset, self._offset = self._offset, self._offset + 1
            self.driver.signal(entity, name, {}, signal_id=f"s-{offset}")
        message = Message(Kind.SIGNAL, name, f"s-{offset}", entity, {}, START_MS, START_MS)
        await self.take(self.codec.encode_message(message), entity.encode(), offset, generation)
        return offset

    async def take(
        self, value: bytes | None, key: bytes = b"k", offset: int | None = None, generation: int = 1
    ) -> None:
        if offset is None:
            offset, self._offset = self._offset, self._offset + 1
        headers = [("traceparent", TRACE.encode())]
        await self.pipeline.take(ConsumerRecord("signals", 0, offset, START_MS, key, value, headers), generation)


async def _yes() -> bool:
    return True


async def hold(signal: Signal, _order: Snapshot) -> Advice | None:
    return Advice("hold", {"note": signal.signal_id}, rationale="why", model="m-1", metadata={"run": "7"})


async def until(condition: Callable[[], object], what: str = "it") -> None:
    """Let the event loop go on until something holds."""

    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - what changes it has no event
            await asyncio.sleep(0)

    try:
        await asyncio.wait_for(wait(), 20)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def test_an_advice_is_proposed_with_the_signal_as_its_cause_on_the_state_that_was_seen() -> None:
    async def main() -> None:
        async with Desk() as desk:
            await desk.signal("o-1")
            await until(lambda: desk.counts["answered"])
            assert desk.driver.read("o-1").fields == {"note": "s-0"}
            assert desk.calls == [("s-0", 1)]
            assert desk.proposed == [{
                "dedup_key": None, "caused_by": "s-0", "valid_for": None, "rationale": "why", "model": "m-1",
                "metadata": {"run": "7"}, "traceparent": TRACE,
            }]  # fmt: skip
            assert dict(desk.counts) == {"advised": 1, "accepted": 1, "answered": 1}
            assert desk.pipeline.positions() == {0: 1}

    asyncio.run(main())


def test_a_signal_that_comes_again_after_a_crash_is_applied_once() -> None:
    async def main() -> None:
        async with Desk() as desk:
            offset = await desk.signal("o-1")
            await until(lambda: desk.counts["answered"])
            driver, version = desk.driver, desk.driver.read("o-1").version
        async with Desk() as restarted:
            restarted.driver = driver
            await restarted.signal("o-1", offset=offset)
            await until(lambda: restarted.counts["answered"])
            assert dict(restarted.counts) == {"advised": 1, "duplicate": 1, "answered": 1}
            assert driver.read("o-1").version == version

    asyncio.run(main())


def test_none_proposes_nothing() -> None:
    async def nothing(_signal: Signal, _order: Snapshot) -> None:
        return None

    async def main() -> None:
        async with Desk(nothing) as desk:
            await desk.signal("o-1")
            await until(lambda: desk.counts["answered"])
            assert dict(desk.counts) == {"silent": 1, "answered": 1}
            assert desk.proposed == []

    asyncio.run(main())


def test_it_thinks_again_on_the_fresh_state_when_the_world_moved_and_not_for_ever() -> None:
    async def main() -> None:
        desk = Desk(recomputes=2)

        async def slow(signal: Signal, order: Snapshot) -> Advice:
            moves = len(desk.calls)
            desk.driver.propose("o-1", "hold", {"note": f"faster {moves}"}, dedup_key=f"faster-{moves}")
            return Advice("hold", {"note": "late"})

        desk._think = slow
        async with desk:
            await desk.signal("o-1")
            await until(lambda: desk.counts["answered"])
            assert [version for _, version in desk.calls] == [1, 2, 3]
            assert dict(desk.counts) == {"advised": 3, "refused_STALE": 3, "recomputed": 2, "answered": 1}

    asyncio.run(main())


def test_the_same_answer_is_not_asked_for_twice() -> None:
    async def wrong(_signal: Signal, _order: Snapshot) -> Advice:
        return Advice("open_again")

    async def main() -> None:
        async with Desk(wrong) as desk:
            await desk.signal("o-1")
            await until(lambda: desk.counts["answered"])
            assert dict(desk.counts) == {"advised": 1, "refused_ILLEGAL_TRANSITION": 1, "answered": 1}

    asyncio.run(main())


def test_a_gate_that_does_not_answer_is_asked_again_with_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("placet.advisor.steps.backoff_s", lambda _times: 0.0)

    async def main() -> None:
        async with Desk() as desk:
            desk.silent_gate = 2
            await desk.signal("o-1")
            await until(lambda: desk.counts["answered"])
            assert dict(desk.counts) == {"advised": 1, "resent": 2, "accepted": 1, "answered": 1}
            desk.silent_gate = 100
            await desk.signal("o-2")
            await until(lambda: desk.counts["given_up"])
            assert (desk.counts["resent"], desk.counts["unanswered"]) == (7, 1)
            assert desk.pipeline.positions() == {0: 2}

    asyncio.run(main())


def test_no_more_think_at_once_than_the_ceiling_and_no_more_wait_than_the_bound() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        at_once: list[int] = []

        async def think(_signal: Signal, _order: Snapshot) -> None:
            at_once.append(len(desk.calls) - desk.counts["silent"])
            await gate.wait()

        desk = Desk(think, ceiling=2, queue=3)
        async with desk:
            for n in range(2):
                await desk.signal(f"o-{n}")
            await until(lambda: len(desk.calls) == 2)
            for n in range(2, 10):
                await desk.signal(f"o-{n}")
            assert desk.counts["dropped_oldest"] == 5
            assert desk.pipeline.positions() == {0: 0}, "what is under way is not over, whatever came behind it"
            gate.set()
            await until(lambda: desk.counts["answered"] == 5)
            assert max(at_once) == 2
            assert [name for name, _ in desk.calls] == ["s-0", "s-1", "s-7", "s-8", "s-9"]
            assert desk.pipeline.positions() == {0: 10}

    asyncio.run(main())


def test_one_entity_is_not_thought_about_twice_at_once() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def think(signal: Signal, _order: Snapshot) -> Advice:
            await gate.wait()
            return Advice("hold", {"note": signal.signal_id})

        async with Desk(think) as desk:
            await desk.signal("o-1")
            await desk.signal("o-1", "seen")
            await desk.signal("o-2")
            await until(lambda: len(desk.calls) == 2)
            assert [name for name, _ in desk.calls] == ["s-0", "s-2"]
            gate.set()
            await until(lambda: desk.counts["answered"] == 3)
            assert desk.calls[2] == ("s-1", 2), "on the state that the first thought has made"
            assert desk.counts["accepted"] == 3

    asyncio.run(main())


def test_with_the_policy_wait_nothing_is_dropped_and_reading_waits() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def think(_signal: Signal, _order: Snapshot) -> None:
            await gate.wait()

        async with Desk(think, ceiling=1, queue=1, drop=Drop.WAIT) as desk:
            await desk.signal("o-0")
            await until(lambda: desk.calls)
            await desk.signal("o-1")
            reading = asyncio.create_task(desk.signal("o-2"))
            await until(lambda: desk.driver.read("o-2").version)
            assert not reading.done()
            gate.set()
            await until(lambda: desk.counts["answered"] == 3)
            assert dict(desk.counts) == {"silent": 3, "answered": 3}

    asyncio.run(main())


def test_a_newer_signal_of_the_same_entity_supersedes_the_one_that_waits() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def think(_signal: Signal, _order: Snapshot) -> None:
            await gate.wait()

        async with Desk(think, drop=Drop.SUPERSEDE) as desk:
            await desk.signal("o-1")
            await until(lambda: desk.calls)
            for _ in range(3):
                await desk.signal("o-1", "seen")
            gate.set()
            await until(lambda: desk.counts["answered"] == 2)
            assert [name for name, _ in desk.calls] == ["s-0", "s-3"]
            assert desk.counts["dropped_superseded"] == 2

    asyncio.run(main())


def test_a_thought_that_takes_too_long_is_cancelled_and_counted() -> None:
    cancelled: list[str] = []

    async def think(signal: Signal, _order: Snapshot) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(signal.signal_id)

    async def main() -> None:
        async with Desk(think, timeout_s=0.01) as desk:
            await desk.signal("o-1")
            await until(lambda: desk.counts["given_up"])
            assert cancelled == ["s-0"]
            assert dict(desk.counts) == {"timed_out": 1, "given_up": 1}
            assert desk.pipeline.positions() == {0: 1}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("advised", "counted"),
    [
        (RuntimeError("the model is away"), "failed"),
        (asyncio.CancelledError(), "failed"),
        (Advice("no_such_proposal"), "invalid"),
        (Advice("hold", {"note": 7}), "invalid"),
        ("hold", "invalid"),
    ],
)
def test_nothing_that_a_function_does_stops_the_others(advised: Any, counted: str) -> None:
    async def think(signal: Signal, order: Snapshot) -> Any:
        if signal.signal_id != "s-0":
            return await hold(signal, order)
        if isinstance(advised, BaseException):
            raise advised
        return advised

    async def main() -> None:
        async with Desk(think) as desk:
            await desk.signal("o-0")
            await until(lambda: desk.counts["given_up"])
            assert desk.counts[counted] == 1
            await desk.signal("o-1")
            await until(lambda: desk.counts["answered"])
            assert desk.pipeline.positions() == {0: 2}

    asyncio.run(main())


def test_a_state_that_can_not_be_read_gives_the_trigger_up() -> None:
    async def main() -> None:
        async with Desk() as desk:
            desk.unreadable = 1
            await desk.signal("o-0")
            await until(lambda: desk.counts["given_up"])
            assert (desk.counts["unread"], desk.calls) == (1, [])

    asyncio.run(main())


def test_a_model_that_fails_is_left_alone_until_a_probe_says_that_it_is_back() -> None:
    async def main() -> None:
        well = asyncio.Event()

        async def think(signal: Signal, order: Snapshot) -> Advice | None:
            if not well.is_set():
                raise RuntimeError("the model is away")
            return await hold(signal, order)

        async with Desk(think, ceiling=4, failures=3, open_s=0.05) as desk:
            for n in range(20):
                await desk.signal(f"o-{n}")
            await until(lambda: desk.counts["breaker_opened"])
            await until(lambda: desk.counts["breaker_opened"] >= 3, "each probe fails")
            failed = desk.counts["failed"]
            assert failed <= 4 + desk.counts["breaker_opened"], "one probe at a time after the first four"
            well.set()
            await until(lambda: desk.counts["given_up"] + desk.counts["answered"] == 20)
            assert desk.meter.registry.get_sample_value("placet_advisor_breaker_open", {"advisor": "noter"}) == 0
            assert desk.counts["accepted"] == 20 - desk.counts["failed"]

    asyncio.run(main())


def test_bytes_that_are_no_signal_are_counted_and_passed_over() -> None:
    async def main() -> None:
        async with Desk() as desk:
            for poison in (b"\xff" * 50, None, b"", b"\xc3\x01" + b"unknown!" + b"body"):
                await desk.take(poison)
            await desk.signal("o-1")
            await until(lambda: desk.counts["answered"])
            assert desk.counts["undecodable"] == 4
            assert desk.pipeline.positions() == {0: 5}

    asyncio.run(main())


NEWER = parse_definition("""
entity: order
version: 2
statuses: [open, held]
fields: {note: string | null}
signals:
  opened: {payload: {total: {type: int, default: 0}}, from: absent, to: open}
  seen: {from: any}
proposals:
  hold: {payload: {note: string}, from: open, to: held, copy: [note]}
""")


def newer_signal(number: int) -> bytes:
    message = Message(Kind.SIGNAL, "opened", f"s-{number}", "o-1", {"total": 7}, START_MS, START_MS)
    return Codec(NEWER).encode_message(message)


@pytest.mark.parametrize("silent_broker", [0, 1])
def test_a_signal_of_rules_that_are_just_published_is_not_lost(
    silent_broker: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("placet.advisor.pipeline._PAUSE_MOST_S", 0)
    totals = []

    async def think(signal: Signal, _order: Snapshot) -> None:
        totals.append(signal.payload["total"])

    async def main() -> None:
        async with Desk(think) as desk:
            desk.published, desk.silent_broker = [NEWER], silent_broker
            for number in range(3):
                await desk.take(newer_signal(number), b"o-1")
            await until(lambda: desk.counts["answered"] == 3)
            assert "undecodable" not in desk.counts
            assert desk.rules_read == 1 + silent_broker

    asyncio.run(main())
    assert totals == [7, 7, 7]


def test_a_schema_that_nobody_has_published_is_asked_for_once_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with Desk() as desk:
            for number in range(3):
                await desk.take(newer_signal(number), b"o-1")
            assert (desk.counts["undecodable"], desk.rules_read) == (3, 1)
            assert desk.pipeline.positions() == {0: 3}

    asyncio.run(main())
    assert "nobody has published its version yet; sent again later it may be read" in capsys.readouterr().out


def test_a_stop_leaves_a_signal_of_unknown_rules_to_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("placet.advisor.pipeline._PAUSE_MOST_S", 0)

    async def main() -> None:
        async with Desk() as desk:
            desk.silent_broker = 1_000_000
            reading = asyncio.ensure_future(desk.take(newer_signal(0), b"o-1"))
            await until(lambda: desk.rules_read)
            await desk.pipeline.stop()
            await reading
            assert desk.pipeline.positions() == {0: 0}

    asyncio.run(main())


def test_rules_without_a_functions_signal_or_with_a_shorter_horizon_do_not_end_the_advisor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    advisor: Any = Advisor(RULES, name="noter", app="shop", limits=Limits(max_age_s=3600))
    advisor.on("opened", "seen")(hold)
    advisor._rules = RULES
    fewer = parse_definition(
        RULES.document.replace('"seen"', '"looked_at"').replace('"horizon":"1d"', '"horizon":"30m"')
    )
    client = SimpleNamespace(definition=RULES, codec="the codec")
    assert (advisor._codec(client), advisor._max_age_ms(client)) == ("the codec", 3_600_000)
    client.definition = fewer
    assert (advisor._codec(client), advisor._max_age_ms(client)) == ("the codec", 900_000)
    advisor._codec(client)
    said = capsys.readouterr().out
    assert said.count("signals are gone from the rules") == 1
    assert "seen" in said


def test_old_signals_are_dropped_before_anybody_thinks() -> None:
    async def main() -> None:
        async with Desk() as desk:
            desk.now_ms += 600_001
            await desk.signal("o-1")
            assert dict(desk.counts) == {"dropped_too_old": 1}
            assert desk.pipeline.positions() == {0: 1}

    asyncio.run(main())


def test_nobody_thinks_before_the_gate_has_decided_on_the_signal() -> None:
    async def main() -> None:
        decided = asyncio.Event()
        asked: list[int] = []

        async def taken() -> bool:
            asked.append(1)
            return decided.is_set()

        async with Desk(taken=taken, settle_s=3600) as desk:
            await desk.signal("o-1", "seen")
            await until(lambda: len(asked) > 2)
            assert desk.calls == []
            decided.set()
            await until(lambda: desk.counts["answered"])
            assert len(desk.calls) == 1

    asyncio.run(main())


def test_a_rebalance_brings_signals_again_that_are_in_hand_and_nobody_thinks_twice() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def think(_signal: Signal, _order: Snapshot) -> None:
            await gate.wait()

        async with Desk(think) as desk:
            for n in range(3):
                await desk.signal(f"o-{n}")
            await until(lambda: len(desk.calls) == 3)
            desk.pipeline.assigned(frozenset({0}))
            assert desk.pipeline.positions() == {}
            for n in range(3):
                await desk.signal(f"o-{n}", offset=n, generation=2)
            gate.set()
            await until(lambda: desk.counts["answered"] == 3)
            assert len(desk.calls) == 3
            assert desk.counts["repeated"] == 3
            assert desk.pipeline.positions() == {0: 3}

    asyncio.run(main())


def test_what_waits_leaves_with_its_partition() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def think(_signal: Signal, _order: Snapshot) -> None:
            await gate.wait()

        async with Desk(think, ceiling=1) as desk:
            await desk.signal("o-0")
            await until(lambda: desk.calls)
            await desk.signal("o-1")
            desk.pipeline.assigned(frozenset({1}))
            assert desk.counts["moved"] == 1
            gate.set()
            await until(lambda: desk.counts["answered"])
            assert desk.pipeline.positions() == {}

    asyncio.run(main())


def test_a_stop_finishes_what_is_under_way_and_leaves_the_rest_for_the_next() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def think(signal: Signal, order: Snapshot) -> Advice | None:
            await gate.wait()
            return await hold(signal, order)

        async with Desk(think, ceiling=1) as desk:
            await desk.signal("o-0")
            await until(lambda: desk.calls)
            await desk.signal("o-1")
            stopping = asyncio.create_task(desk.pipeline.stop())
            await asyncio.sleep(0)
            gate.set()
            await stopping
            assert dict(desk.counts) == {"advised": 1, "accepted": 1, "answered": 1}
            assert desk.pipeline.positions() == {0: 1}

    asyncio.run(main())


def test_a_stop_does_not_wait_for_ever() -> None:
    async def think(_signal: Signal, _order: Snapshot) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with Desk(think, grace_s=0.01) as desk:
            await desk.signal("o-0")
            await until(lambda: desk.calls)
            await desk.pipeline.stop()
            assert desk.pipeline.positions() == {0: 0}, "it comes again"

    asyncio.run(main())


def test_mistakes_of_the_author_are_named() -> None:
    advisor = Advisor(RULES, name="noter", app="shop")
    advisor.on("opened")(hold)
    with pytest.raises(SettingsError, match="`opened` has a function already"):
        advisor.on("opened")(hold)
    with pytest.raises(SettingsError, match=r"async def.*asyncio\.to_thread"):
        advisor.on("seen")(lambda *_: None)
    with pytest.raises(NotConnected, match="not running"):
        _ = advisor.client
    advisor.on("sen")(hold)
    with pytest.raises(
        SettingsError, match=r"no signal sen; version 1 of `order` has the signals opened, seen\. If a later version"
    ):
        advisor._check(RULES)
    with pytest.raises(SettingsError, match="nothing to do"):
        Advisor(RULES, name="idle", app="shop")._check(RULES)
