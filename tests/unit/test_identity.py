"""What tasks belong to, asked while they run: how often, of whom, and which answers count."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from placet.schemas.errors import SettingsError
from placet.streams.errors import TaskStopped
from placet.streams.kafka.admin_errors import BrokerUnreachable, UnknownTopic
from placet.streams.kafka.cluster import TopicInfo
from placet.streams.loop.identity import Identity
from placet.streams.records import TopicPartition
from placet.streams.topology import TaskId, control_topic, dead_letters_topic, entity_topics

TYPES = ("lamp", "order")
TASKS = [TaskId(entity, number) for entity in TYPES for number in (0, 1)]
CONTROL = control_topic("app")
LOST = BrokerUnreachable("no answer")


class Turn:
    """Two entity types of two partitions each, brokers that answer at once, and a clock."""

    def __init__(self) -> None:
        topics = {entity: entity_topics("app", entity) for entity in TYPES}
        self.infos: dict[str, TopicInfo | Exception] = {
            topic: TopicInfo(f"id of {topic}", 2, 1, {}) for entity in TYPES for topic in topics[entity]
        }
        self.infos |= {name: TopicInfo(f"id of {name}", 1, 1, {}) for name in (CONTROL, dead_letters_topic("app"))}
        kinds = {
            entity: SimpleNamespace(
                app="app", topics=topics[entity], partitions=2,
                topic_ids={topic: f"id of {topic}" for topic in (*topics[entity], CONTROL)},
            )
            for entity in TYPES
        }  # fmt: skip
        self.starts: dict[TopicPartition, int] = {}
        self.control_end: int | Exception = 7
        self.questions: list[str] = []
        self.answers = True
        self.now_s = 1_000.0
        self.faults: dict[str, list[str]] = {}
        self.observer = MagicMock()
        rules = SimpleNamespace(entity_types=kinds, position=7)
        self.identity = Identity(
            cast("Any", self), cast("Any", rules), self.observer, lambda: self.now_s, lambda _infos: self.faults
        )

    def ask_topics(self, names: Iterable[str]) -> dict[str, Future[TopicInfo]]:
        self.questions.append("topics")
        return self._asked({name: self.infos[name] for name in names})

    def ask_configs(self, names: Iterable[str]) -> dict[str, Future[dict[str, str]]]:
        return self._asked({name: it if isinstance(it := self.infos[name], Exception) else {} for name in names})

    def ask_starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        self.questions.append("starts")
        return self._asked({at: self.starts.get(at, 0) for at in partitions})

    def ask_ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        return self._asked(dict.fromkeys(partitions, self.control_end))

    def _asked(self, values: dict[Any, Any]) -> dict[Any, Future[Any]]:
        answers = {of: Future[Any]() for of in values}
        for of, answer in answers.items():
            if self.answers and isinstance(values[of], Exception):
                answer.set_exception(values[of])
            elif self.answers:
                answer.set_result(values[of])
        return answers

    def go_on(self, seconds: float, tasks: Iterable[TaskId] = TASKS) -> dict[TaskId, str]:
        """Let the loop come around five times a second, without the tasks that stop; return these, and why."""
        left, stopped = list(tasks), dict[TaskId, str]()
        for _ in range(round(seconds * 5)):
            self.now_s += 0.2
            try:
                self.identity.check(left)
            except TaskStopped as error:
                stopped[error.task] = str(error)
                left.remove(error.task)
        return stopped


def test_one_question_for_all_topics_at_a_bounded_rate() -> None:
    turn = Turn()
    assert turn.go_on(300) == {}
    assert turn.questions == ["topics", "starts"] * 10


def test_a_question_without_an_answer_is_forgotten() -> None:
    turn = Turn()
    turn.answers = False
    assert turn.go_on(60) == {}
    turn.answers = True
    turn.infos[CONTROL] = TopicInfo("another", 1, 1, {})
    assert turn.go_on(31).keys() == {*TASKS}


@pytest.mark.parametrize(
    ("topic", "tasks"), [("app.order.signals", TASKS[2:]), ("app.lamp.ledger", TASKS[:2]), (CONTROL, TASKS)]
)
def test_another_id_stops_the_tasks_of_that_topic_and_no_others(topic: str, tasks: list[TaskId]) -> None:
    turn = Turn()
    turn.infos[topic] = TopicInfo("another", 2, 1, {})
    stopped = turn.go_on(2)
    assert list(stopped) == tasks
    for task, why in stopped.items():
        assert why.startswith(f"{task}: {topic} was created anew: id another, this gate knows id of {topic}. ")
        assert "--app" in why, "what to do"


def test_a_deposed_leader_and_a_broker_that_lags_behind_stop_nothing() -> None:
    turn = Turn()
    turn.go_on(1)
    turn.infos["app.order.signals"] = UnknownTopic("unknown")
    assert turn.go_on(35) == {}
    turn.infos["app.order.signals"] = TopicInfo("id of app.order.signals", 2, 1, {})
    turn.control_end = 3
    assert turn.go_on(9) == {}
    turn.control_end = 7
    assert turn.go_on(60) == {}


def test_what_is_said_for_a_while_counts() -> None:
    turn = Turn()
    turn.control_end = 3
    assert turn.go_on(20).keys() == {*TASKS}
    turn = Turn()
    turn.starts = {TopicPartition("app.order.changelog", 1): 4}
    assert turn.go_on(20).keys() == {TaskId("order", 1)}


@pytest.mark.parametrize("silence", [LOST, SettingsError("no right to look")])
def test_silence_speaks_against_nothing(silence: Exception) -> None:
    turn = Turn()
    turn.infos = dict.fromkeys(turn.infos, silence)
    assert turn.go_on(120) == {}
    turn = Turn()
    turn.control_end = silence
    assert turn.go_on(120) == {}


def test_a_topic_that_is_gone_is_told_though_no_task_of_it_runs() -> None:
    turn = Turn()
    turn.infos["app.order.signals"] = UnknownTopic("unknown")
    assert turn.go_on(20, []) == {}
    assert turn.observer.event.call_args.kwargs["topic"] == "app.order.signals"
    assert turn.observer.unfit_topics.call_args.args == ({"app.order.signals": 1},)


def test_without_dead_letters_tasks_go_on_and_all_else_is_looked_at() -> None:
    turn = Turn()
    turn.infos[dead_letters_topic("app")] = UnknownTopic("unknown")
    assert turn.go_on(20) == {}
    assert "placet topics apply" in turn.observer.event.call_args.kwargs["why"]
    turn.starts = {TopicPartition("app.order.changelog", 1): 4}
    assert turn.go_on(60).keys() == {TaskId("order", 1)}


def test_a_fault_of_a_setting_is_told_once_and_shown_until_it_is_mended() -> None:
    turn = Turn()
    turn.faults = {"app.order.ledger": ["cleanup.policy is delete, must be compact"]}
    assert turn.go_on(120) == {}
    turn.observer.event.assert_called_once()
    assert turn.observer.unfit_topics.call_args.args == ({"app.order.ledger": 1},)
    turn.infos[CONTROL] = LOST  # who does not tell has not mended it
    turn.faults = {}
    turn.go_on(60)
    assert turn.observer.unfit_topics.call_args.args == ({"app.order.ledger": 1},)
    turn.infos[CONTROL] = TopicInfo(f"id of {CONTROL}", 1, 1, {})
    turn.go_on(60)
    assert turn.observer.unfit_topics.call_args.args == ({},)
