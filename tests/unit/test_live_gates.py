"""Who can run what is about to be published: the live gates are asked, and waited for while they are live."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from placet.definitions import parse_definition
from placet.processors.ladder import LADDER
from placet.schemas.codec.control import NO_BASE, Published
from placet.schemas.codec.gates import GateAnswer, answer_key, candidate_of, decode_answer, encode_answer
from placet.schemas.errors import DecodeError, SettingsError
from placet.streams.errors import FatalError, LogUnreachable
from placet.streams.live_gates import Answered, LiveGates, check_answers
from placet.streams.loop.candidates import Candidates
from placet.streams.records import ConsumerRecord, TopicPartition
from tests.staged import StagedHost
from tests.unit.control_records import published

GATES = TopicPartition("app.gates", 0)
LAMP = parse_definition("""
entity: lamp
version: 2
statuses: [lit]
signals: {made: {from: absent, to: lit}}
""")
CANDIDATE = published(LAMP, base=NO_BASE)
CAN, LACKS = "", "there is no such function"


class Topic:
    """The topic of questions, the group, and a clock that each wait moves on."""

    def __init__(self, **says: str | None) -> None:
        self.says = says  # what each gate answers as soon as it is asked; None: nothing
        self.live = [f"app.{name}" for name in says]
        self.records: list[ConsumerRecord] = []
        self.now_s, self.asked, self.waited_for = 0.0, 0, list[list[str]]()
        self.at: dict[float, Callable[[], object]] = {}
        self.unlisted = 0
        self.read_to = 0
        self.unreachable = 0
        self.gates = LiveGates(
            StagedHost(monotonic_s=lambda: self.now_s, sleep=self.sleep), cast("Any", self), GATES, 0, self.produce,
            self.group, "app", "app.own", lambda gates: self.waited_for.append([*gates]), lambda: None,
        )  # fmt: skip

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        for at_s in [at_s for at_s in self.at if at_s <= self.now_s]:
            self.at.pop(at_s)()

    def produce(self, key: bytes, value: bytes) -> None:
        self.append(key, value)
        self.asked += 1
        for gate, why in self.says.items():
            if why is not None:
                self.answer(gate, why)

    def answer(self, gate: str, why: str = "") -> None:
        answer = GateAnswer(f"app.{gate}", "lamp", LAMP.digest.hex(), why, "1.0", LADDER)
        self.append(answer_key(answer), encode_answer(answer))

    def append(self, key: bytes, value: bytes) -> None:
        self.records.append(ConsumerRecord(*GATES, len(self.records), 0, key, value))

    def group(self) -> Iterable[str]:
        if self.unlisted:
            self.unlisted -= 1
            raise LogUnreachable("the coordinator is away")
        return self.live

    def follow(self, _partition: TopicPartition, position: int) -> None:
        self.read_to = position

    def take_new(self) -> tuple[list[ConsumerRecord], None]:
        if self.unreachable:
            self.unreachable -= 1
            raise LogUnreachable("its leader is away")
        found, self.read_to = self.records[self.read_to :], len(self.records)
        return found, None

    def ask(self, patience_s: float = 20.0) -> dict[str, str]:
        return {one.gate: one.why_not for one in self.gates.ask([CANDIDATE], patience_s)}


def test_each_live_gate_is_asked_and_says_whether_it_can() -> None:
    topic = Topic(a=CAN, b=LACKS)
    assert topic.ask() == {"a": "", "b": f"{LACKS} (release 1.0, ladder {LADDER})"}
    assert topic.asked == 1
    assert topic.now_s < 1
    assert topic.waited_for == []


def test_where_no_gate_is_live_nobody_is_asked() -> None:
    topic = Topic()
    topic.live = ["app.own"]  # an earlier process of the gate that starts
    assert topic.ask() == {}
    assert topic.records == []


def test_an_answer_of_before_the_question_does_not_count() -> None:
    topic = Topic(a=None)
    topic.answer("a")
    topic.gates._position = 1
    assert "did not answer within 20 s" in topic.ask()["a"]


def test_a_gate_that_never_answers_is_asked_again_named_and_given_up() -> None:
    topic = Topic(a=CAN, older=None)
    found = topic.ask()
    assert "did not answer within 20 s" in found["older"]
    assert "release that does not know the question" in found["older"]
    assert found["a"] == ""
    assert topic.asked > 5
    assert topic.waited_for == [["older"]], "told once"


def test_a_gate_that_leaves_is_waited_for_no_longer_and_one_that_joins_is() -> None:
    topic = Topic(a=CAN, killed=None)
    topic.at = {6.0: lambda: topic.live.remove("app.killed")}
    assert topic.ask() == {"a": ""}
    assert 6 < topic.now_s < 9
    topic = Topic(a=CAN, slow=None)
    topic.at = {2.0: lambda: topic.live.append("app.new"), 5.0: lambda: topic.says.update(new=LACKS, slow=CAN)}
    assert [name for name, why in topic.ask().items() if why] == ["new"]


def test_what_can_not_be_read_or_asked_at_the_moment_is_tried_again() -> None:
    topic = Topic(a=CAN)
    topic.unreachable = topic.unlisted = 3
    assert topic.ask() == {"a": ""}
    topic.unlisted = 100
    with pytest.raises(LogUnreachable, match="coordinator"):
        topic.ask()


def test_what_a_live_gate_can_not_run_is_refused_by_name_and_forced_with_what_follows() -> None:
    answered = [Answered("a", "lamp", 2, ""), Answered("b", "lamp", 2, LACKS), Answered("b", "fan", 1, "")]
    with pytest.raises(SettingsError) as caught:
        check_answers(answered, force=False)
    told = str(caught.value)
    assert told.startswith(
        "definition lamp version 2 is not published: not every live gate can run it:\n  b: there is no"
    )
    assert "--force (PLACET_FORCE=true)" in told
    [forced] = check_answers(answered, force=True)
    assert (forced.entity, forced.version) == ("lamp", 2)
    assert "leave it to others:\n  b: there is no such function" in forced.what
    assert check_answers([one for one in answered if not one.why_not], force=False) == []


# -- the gate's side --------------------------------------------------------------------------------------------------


class Asked:
    """A gate that is asked, until what it is to take is taken."""

    def __init__(self, *takes: Any, why_not: Callable[[Published], str] = lambda _one: "") -> None:
        self.takes, self.written, self.events, self.slept = [*takes], list[tuple[bytes, bytes]](), list[str](), 0.0
        self.rules = SimpleNamespace(closed=False, why_not=why_not)
        self.followed: list[int] = []
        self.refuse: Exception | None = None
        host = StagedHost(spawn=lambda _name, work: work(), sleep=self.sleep)
        observer = SimpleNamespace(event=lambda name, **_details: self.events.append(name))
        Candidates(
            host, lambda: cast("Any", self), GATES, 7, cast("Any", self.rules), self.produce, "app.g", "1.0",
            cast("Any", observer),
        ).listen()  # fmt: skip

    def follow(self, _partition: TopicPartition, position: int) -> None:
        self.followed.append(position)

    def take(self, _timeout_ms: int) -> tuple[list[ConsumerRecord], list[TopicPartition]]:
        found = self.takes.pop(0) if self.takes else []
        self.rules.closed = not self.takes
        if isinstance(found, Exception):
            raise found
        return found, []

    def produce(self, key: bytes, value: bytes) -> None:
        self.written.append((key, value))

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def close(self) -> None: ...

    def answers(self) -> list[GateAnswer]:
        return [answer for key, value in self.written if (answer := decode_answer(key, value))]


def question(offset: int = 7, value: bytes | None = None) -> ConsumerRecord:
    topic = Topic(a=None)
    topic.ask(1.0)
    return topic.records[0]._replace(offset=offset, **({} if value is None else {"value": value}))


def test_a_gate_answers_what_it_is_asked_and_nothing_else() -> None:
    other = GateAnswer("app.h", "lamp", "00")
    gate = Asked([question(), ConsumerRecord(*GATES, 8, 0, answer_key(other), encode_answer(other))])
    [answer] = gate.answers()
    assert answer == GateAnswer("app.g", "lamp", LAMP.digest.hex(), "", "1.0", LADDER)


@pytest.mark.parametrize(
    ("raised", "told"),
    [(SystemError("a bug"), "SystemError: a bug"), (LogUnreachable("registry"), "LogUnreachable: registry")],
)
def test_whatever_compiling_raises_is_why_it_can_not(raised: Exception, told: str) -> None:
    def raising(_one: Published) -> str:
        raise raised

    [answer] = Asked([question()], why_not=raising).answers()
    assert answer.why_not == told


def test_a_candidate_of_a_later_release_is_answered_by_its_key() -> None:
    [answer] = Asked([question(value=b"\xc3\x01later")]).answers()
    assert "written by a later one" in answer.why_not
    assert answer.digest == LAMP.digest.hex()


def test_a_gate_listens_on_after_an_error_and_tells_of_a_right_that_it_lacks() -> None:
    gate = Asked([question(7)], LogUnreachable("its leader is away"), FatalError("no right to read"), [question(8)])
    assert gate.followed == [7, 8, 8]
    assert gate.events == ["can't say what can be run here"]
    assert len(gate.answers()) == 2


def test_keys_say_what_a_record_is() -> None:
    assert candidate_of(b"candidate/lamp/00ff") == ("lamp", "00ff")
    assert [candidate_of(key) for key in (None, b"", b"candidate", b"candidate/lamp", b"answer/lamp/00/g")] == [
        None
    ] * 5
    assert decode_answer(b"candidate/lamp/00", b"{}") is None
    with pytest.raises(DecodeError):
        decode_answer(b"answer/lamp/00/g", b"\xff")
