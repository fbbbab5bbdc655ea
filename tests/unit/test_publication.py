"""What is checked before a definition is published, and which published versions count."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from placet.definitions import parse_definition
from placet.doctor.rules import remarks
from placet.processors.ladder import LADDER
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DecodeError, SettingsError
from placet.schemas.in_force import in_force
from placet.streams.host import LocalHost
from placet.streams.records import TopicPartition
from placet.streams.rules.control import refuse_unfit
from placet.streams.rules.publication import check_publication
from placet.streams.rules.rulebook import Rulebook
from placet.streams.rules.survey import count_standing
from placet.testing import TestDriver
from placet.verify.rules import PastRules
from tests.memory_log import log_of
from tests.unit.control_records import published, rulebook_of

V1 = """
entity: lamp
version: 1
horizon: 1h
statuses: [lit, dim]
fields: {watts: {type: int, default: 5}, room: string | null}
signals:
  changed: {payload: {watts: int}, from: [absent, lit], to: lit, copy: watts}
  dimmed: {from: lit, to: dim}
  gone: {from: any, to: absent}
proposals:
  move: {payload: {room: string}, from: lit, copy: room}
"""
OLD = parse_definition(V1)


def changed(version: int = 2, **replaced: str) -> Definition:
    text = V1.replace("version: 1", f"version: {version}")
    for before, after in zip(replaced["old"].split("@"), replaced["new"].split("@"), strict=True):
        assert before in text
        text = text.replace(before, after)
    return parse_definition(text)


RETYPED = changed(old="{type: int, default: 5}@watts: int", new="{type: string, default: a}@watts: string")
WITHOUT_DIM = changed(
    old="[lit, dim]@  dimmed: {from: lit, to: dim}\n", new="[lit]@  dimmed: {from: lit}\n"
)  # fmt: skip


def known(*definitions: Definition) -> Rulebook:
    return rulebook_of((offset, published(definition)) for offset, definition in enumerate(definitions))


def test_what_a_release_with_a_later_ladder_published_is_not_run_by_this_one() -> None:
    later = published(OLD, ladder=2)
    with pytest.raises(SettingsError, match="decision ladder 2 published version 1, this one runs ladder 1"):
        refuse_unfit(OLD, [published(OLD), later])
    refuse_unfit(OLD, [published(OLD)])


def never(_entity: str, _statuses: frozenset[str]) -> Mapping[str, int]:
    raise AssertionError("nobody is to be counted")


def check(*definitions: Definition, before: tuple[Definition, ...] = (OLD,), force: bool = False) -> str:
    counted = {"dim": 1_234}
    forced = check_publication(definitions, known(*before), lambda _e, _s: counted, force=force)
    return "".join(item.what for item in forced)


SECONDS = "move: {guard: 'int(decided_at) > 5', payload"
IN_SECONDS = changed(old="move: {payload", new=SECONDS)


@pytest.mark.parametrize("before", [(), (OLD,)], ids=["the first one", "a later one"])
def test_new_rules_in_a_wrong_unit_are_not_published(before: tuple[Definition, ...]) -> None:
    for force in (False, True):
        with pytest.raises(SettingsError, match=r"version 2 is not published:\n.*guard: int\(…\) of a time gives sec"):
            check(IN_SECONDS, before=before, force=force)
    [remark] = remarks([IN_SECONDS], [published(found) for found in before])
    assert (remark.status, "of a time gives seconds" in remark.found) == ("fail", True)


def test_what_was_published_in_it_may_stay_and_be_withdrawn_to() -> None:
    """A release that knows better must not stand in the way of a withdrawal, nor of the next change."""
    assert check(IN_SECONDS, before=(OLD, IN_SECONDS)) == ""
    mended = changed(3, old="room: string | null", new="room: string | null, owner: string | null")
    again = changed(4, old="move: {payload", new=SECONDS)
    assert check(again, before=(OLD, IN_SECONDS, mended), force=True)
    both = f"room: string | null, more: int | null@{SECONDS}"
    wider = changed(3, old="room: string | null@move: {payload", new=both)
    assert check(wider, before=(OLD, IN_SECONDS)) == ""
    both = f"{SECONDS}@from: lit, to: dim, guard: 'int(event_time) > 5'"
    one_more = changed(3, old="move: {payload@from: lit, to: dim", new=both)
    with pytest.raises(SettingsError, match=r"signals\.dimmed"):
        check(one_more, before=(OLD, IN_SECONDS))


def test_what_goes_with_the_version_in_force_counts_nobody() -> None:
    wider = changed(old="room: string | null", new="room: string | null, owner: string | null")
    assert check_publication([wider], known(OLD), never, force=False) == []
    assert check_publication([OLD], known(), never, force=False) == []


def test_a_status_that_vanishes_is_refused_with_how_many_stand_in_it() -> None:
    with pytest.raises(SettingsError) as caught:
        check(WITHOUT_DIM)
    assert "lamp version 2 is not published: it is incompatible with version 1, which is in force" in str(caught.value)
    assert "statuses.dim removed: 1,234 entities stand in it now." in str(caught.value)
    assert "each input about them is refused (ILLEGAL_TRANSITION)" in str(caught.value)
    assert "--force (PLACET_FORCE=true)" in str(caught.value)
    assert "statuses.dim removed: 1,234 entities" in check(WITHOUT_DIM, force=True)


def test_a_version_that_was_forced_starts_again_without_force() -> None:
    assert check(WITHOUT_DIM, before=(OLD, WITHOUT_DIM)) == ""


@pytest.mark.parametrize(
    ("old", "new", "line", "follows"),
    [
        (", room: string | null@, copy: room", "@", "fields.room removed", "values of a removed field stay"),
        ("  gone: {from: any, to: absent}\n", "", "signals.gone removed", "facts of a removed name are refused"),
        ("lit, copy: room", "lit, dedup: once, copy: room", "proposals.move.dedup", "applied a second time"),
        ("horizon: 1h", "horizon: 2h", "horizon 1h -> 2h", "a retry of what is forgotten already"),
        (
            "room: string | null}@copy: watts", "room: string | null, new: int}@copy: watts, set: {new: 3}",
            "fields.new added without default", "the field is null in the states that exist",
        ),
    ],
)  # fmt: skip
def test_what_is_incompatible_is_named_with_what_follows(old: str, new: str, line: str, follows: str) -> None:
    definition = changed(old=old, new=new)
    with pytest.raises(SettingsError, match=line):
        check(definition)
    found, forced = check(definition, force=True).splitlines()
    assert found.startswith(f"  {line}")
    assert "stand in it now" not in found, "entities are counted by status alone"
    assert forced.startswith("  forced: ")
    assert follows in forced


@pytest.mark.parametrize("force", [True, False])
def test_what_can_not_be_read_is_never_forced(force: bool) -> None:
    with pytest.raises(SettingsError, match=r"can't read what version 1 wrote: `watts`: int.*This can't be forced"):
        check(RETYPED, force=force)


def test_a_version_of_before_the_last_one_counts_too() -> None:
    without = changed(old=", room: string | null@, copy: room", new="@")
    again = changed(3, old="room: string | null}@{room: string}", new="room: long | null}@{room: long}")
    with pytest.raises(SettingsError, match="can't read what version 1 wrote: `room`"):
        check(again, before=(OLD, without), force=True)


def test_all_definitions_are_checked_before_the_first_is_published() -> None:
    other = parse_definition(V1.replace("entity: lamp", "entity: room"))
    with pytest.raises(SettingsError, match="lamp version 2"):
        check(other, WITHOUT_DIM)


def test_a_higher_version_that_reads_what_was_there_replaces_one_that_does_not() -> None:
    third = changed(3, old="room: string | null", new="room: string | null")
    assert check(third, before=(OLD, RETYPED)) == ""
    found = known(OLD, RETYPED, third).in_force("lamp")
    assert [one.published.version for one in found.usable] == [1, 3]
    assert [(entry.version, why.split(":")[0]) for entry, why in found.passed_over] == [
        (2, "it can't read what version 1 wrote")
    ]


def test_a_document_of_a_later_release_is_passed_over() -> None:
    later = published(RETYPED, document=OLD.document.replace('"entity"', '"planet"'), version=7)
    found = in_force("lamp", [published(OLD), later])
    assert found.newest is not None
    assert found.newest.published.version == 1
    assert "this release of Placet can't use it" in found.passed_over[0][1]


def test_verify_reads_by_the_newest_version_that_counts() -> None:
    later = published(RETYPED, document="{}", digest=b"later", version=7)
    rules = PastRules("lamp", rulebook_of([(0, published(OLD)), (1, published(RETYPED)), (2, later)]), None, 1 << 20)
    assert rules.reader() is rules.reader(OLD.digest)
    assert rules.horizon_ms(b"later") == OLD.horizon_ms
    assert rules.reader(b"later") is rules.reader()
    with pytest.raises(SettingsError, match="lamp version 7: this release of Placet can't use it"):
        PastRules("lamp", rulebook_of([(2, later)]), None, 1 << 20)


def test_the_doctor_says_what_is_passed_over_and_what_would_be_refused() -> None:
    found = list(remarks([OLD], [published(OLD), published(RETYPED)]))
    assert [(remark.status, "version 2" in remark.found) for remark in found] == [("warn", True)]
    (remark,) = remarks([WITHOUT_DIM], [published(OLD)])
    assert (remark.status, "statuses.dim removed" in remark.found) == ("fail", True)
    (remark,) = remarks([RETYPED], [published(OLD)])
    assert remark.status == "fail"
    assert "lamp version 2 will not be published: it can't read what version 1 wrote" in remark.found
    (remark,) = remarks([OLD], [published(OLD)])
    assert remark.status == "ok"


def test_the_doctor_says_that_a_lower_version_will_not_be_run() -> None:
    newer = changed(old="room: string | null", new="room: string | null, owner: string | null")
    (found,) = remarks([OLD], [published(OLD), published(newer)][1:])
    assert (found.status, "version 2 is in force" in found.found, "runs that one" in found.todo) == ("warn", True, True)


def test_entities_are_counted_by_their_latest_state() -> None:
    driver = TestDriver(OLD, partitions=2)
    for number in range(6):
        driver.signal(f"l-{number}", "changed", {"watts": number}, signal_id=f"s-{number}")
    for number in range(5):
        driver.signal(f"l-{number}", "dimmed", signal_id=f"d-{number}")
    driver.signal("l-0", "gone", signal_id="g")
    place = TopicPartition(driver.topics.changelog, 0)
    driver.log.append(place, 0, b"foreign", b"\xc3\x01later")
    looks: list[None] = []
    wanted = frozenset({"dim", "never"})
    counts = count_standing(
        log_of(driver), driver.codec, driver.topics.changelog, 2, wanted, LocalHost().monotonic_s,
        lambda: looks.append(None),
    )  # fmt: skip
    assert counts == {"dim": 4}
    assert len(looks) >= 2, "a gate that counts says that it is alive"


def test_a_record_of_a_version_that_can_not_be_read_says_so() -> None:
    codec, foreign = Codec(OLD), TestDriver(RETYPED)
    foreign.signal("l", "changed", {"watts": "a"}, signal_id="s")
    (record,) = foreign.log.records(TopicPartition(foreign.topics.changelog, 0))
    codec.refuse(contracts(RETYPED).change, "version 2 of `lamp` wrote it")
    codec.refuse("no schema at all", "never")
    with pytest.raises(DecodeError, match="version 2 of `lamp` wrote it"):
        codec.decode_change(record.value or b"", record.headers)


def test_a_gate_says_which_version_wrote_a_state_that_it_can_not_read() -> None:
    rulebook, driver, foreign = known(OLD, RETYPED), TestDriver(OLD), TestDriver(RETYPED)
    assert [(entry.version, why[:7]) for entry, why in rulebook.teach({"lamp": driver.codec})] == [(2, "`watts`")]
    foreign.signal("l", "changed", {"watts": "a"}, signal_id="s")
    (record,) = foreign.log.records(TopicPartition(foreign.topics.changelog, 0))
    with pytest.raises(DecodeError, match="version 2 of `lamp` wrote it, which can't be read: `watts`"):
        driver.codec.decode_state(record.value or b"", record.headers)


def test_a_payload_that_can_not_be_read_takes_no_states_with_it() -> None:
    """Forced: `at` becomes a time, which differs from a long in its logical type alone; the states go together."""
    signal, room = "changed: {payload: {watts: int}@, copy: watts", "room: string | null"
    second = changed(old=f"{signal}@{room}", new=f"changed: {{payload: {{at: long}}@@{room}, owner: string | null")
    third = changed(
        3, old=f"{signal}@{room}",
        new=f"changed: {{payload: {{at: timestamp}}@@{room}, owner: string | null, keeper: string | null",
    )  # fmt: skip
    assert "signals.changed.payload.at long -> timestamp" in check(third, before=(OLD, second), force=True)
    rulebook, driver, earlier = known(OLD, second), TestDriver(third), TestDriver(second)
    assert ["logical type only" in why for _, why in rulebook.teach({"lamp": driver.codec})] == [True]
    earlier.signal("l", "changed", {"at": 1}, signal_id="s")
    (record,) = earlier.log.records(TopicPartition(earlier.topics.changelog, 0))
    rules = PastRules("lamp", known(OLD, second, third), None, 1 << 20)
    for codec in (driver.codec, rules.reader()):
        assert codec.decode_state(record.value or b"", record.headers).status == "lit"


def test_what_everybody_passes_over_is_not_run_though_it_is_published() -> None:
    """An earlier release published first, and found it unfit afterwards."""
    with pytest.raises(SettingsError, match=r"stands on control, but is passed over .*: it can't read.*watts"):
        check(RETYPED, before=(OLD, RETYPED))
    assert check(RETYPED, before=(RETYPED,)) == "", "alone it reads all that was written"


def test_older_rules_that_were_never_published_are_told_to_take_a_higher_version() -> None:
    other = changed(1, old="horizon: 1h", new="horizon: 2h")
    with pytest.raises(SettingsError, match=r"version 2 is published already.*Give these rules a higher version"):
        check(other, before=(OLD, RETYPED))


def test_what_stands_on_the_topic_is_not_refused_for_what_came_later() -> None:
    """A gate of an earlier release starts again: whether it can run what is in force is asked afterwards."""
    later = published(changed(old="horizon: 1h", new="horizon: 2h"), ladder=LADDER + 1)
    for rulebook in (known(OLD, RETYPED), rulebook_of([(0, published(OLD)), (1, later)])):
        assert check_publication([OLD], rulebook, never, force=False) == []
    with pytest.raises(SettingsError, match="this one runs ladder"):
        check_publication([WITHOUT_DIM], rulebook, never, force=True)
