"""Topics: what is missing or wrong is found, with what to do; what is safe is changed, what is not is refused whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest

from placet.processors.dedup import CLOCK_AHEAD_MAX_MS
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import SettingsError
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import TopicInfo
from placet.streams.records import TopicPartition
from placet.streams.settings import load_settings
from placet.streams.topics.configs import AlterWhen, Must, Need, TopicSpec, needs_of, output_bytes_max, required_topics
from placet.streams.topics.plan import Action, Step, apply, check_topics, observe, plan, verify
from placet.streams.topology import EntityTopics

DAY_MS = 86_400_000
FOREVER_MS = 9_223_372_036_854_775_807
BROKER_DEFAULTS = {
    "cleanup.policy": "delete",
    "delete.retention.ms": str(DAY_MS),
    "max.compaction.lag.ms": str(FOREVER_MS),
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": str(7 * DAY_MS),
    "unclean.leader.election.enable": "false",
}


def definition(entity: str = "lamp", horizon: str = "24h") -> Definition:
    return parse_definition(f"""
entity: {entity}
version: 1
horizon: {horizon}
statuses: [dark]
signals: {{made: {{from: absent, to: dark}}}}
""")


@dataclass
class FakeCluster:
    """A cluster in memory that behaves as Kafka does, seen through the methods of `Admin`.

    `looks_behind` is how many looks it takes until a change is seen, as brokers learn late.
    """

    topics: dict[str, TopicInfo] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    replication_factor: int = 1
    looks_behind: int = 0
    changes: list[str] = field(default_factory=list)
    _seen: dict[str, TopicInfo] = field(default_factory=dict)
    _behind: int = 0
    clients: LocalHost = field(default_factory=LocalHost)

    def describe_topics(self, names: Iterable[str]) -> dict[str, TopicInfo]:
        if self._behind == 0:
            self._seen = dict(self.topics)
        self._behind = max(0, self._behind - 1)
        return {name: self._seen[name] for name in names if name in self._seen}

    def latest_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self.ends.get(partition.topic, 0) for partition in partitions}

    def create_topic(self, name: str, partitions: int, *, replication_factor: int, configs: Mapping[str, str]) -> bool:
        if name in self.topics:
            return False
        replicas = self.replication_factor if replication_factor < 0 else replication_factor
        self.topics[name] = TopicInfo(f"id-of-{name}", partitions, replicas, {**BROKER_DEFAULTS, **configs})
        self._changed(f"create {name}")
        return True

    def alter_configs(self, topic: str, changes: Mapping[str, str]) -> None:
        info = self.topics[topic]
        self.topics[topic] = info._replace(configs={**info.configs, **changes})
        self._changed(f"alter {topic}")

    def _changed(self, what: str) -> None:
        self.changes.append(what)
        self._behind = self.looks_behind

    def set(self, topic: str, **changes: object) -> None:
        configs = {name.replace("_", "."): str(value) for name, value in changes.items()}
        self.topics[topic] = self.topics[topic]._replace(configs={**self.topics[topic].configs, **configs})


def applied(*definitions: Definition, partitions: int | None = None) -> FakeCluster:
    cluster = FakeCluster()
    apply(cluster, required_topics("a", definitions or (definition(),), partitions))
    cluster.changes.clear()
    return cluster


def planned(cluster: FakeCluster, *definitions: Definition, partitions: int | None = None) -> list[Step]:
    specs = required_topics("a", definitions or (definition(),), partitions)
    return plan(specs, *observe(cluster, specs))


# -- what there must be ------------------------------------------------------------------------------------------------


def test_an_empty_cluster_gets_five_topics_for_each_entity_and_two_for_the_app() -> None:
    steps = planned(FakeCluster(), definition("lamp"), definition("door"))
    assert {step.topic: step.partitions for step in steps} == {
        **{f"a.{entity}.{role}": 6 for entity in ("lamp", "door") for role in EntityTopics._fields},
        "a.control": 1,
        "a.gates": 1,
        "a.dead-letters": 1,
    }
    assert {step.action for step in steps} == {Action.CREATE}


def test_the_broker_stamps_every_topic() -> None:
    assert {step.configs["message.timestamp.type"] for step in planned(FakeCluster())} == {"LogAppendTime"}


def test_what_must_stay_is_compacted_only_and_what_passes_is_deleted() -> None:
    policies = {step.topic.rpartition(".")[2]: step.configs["cleanup.policy"] for step in planned(FakeCluster())}
    assert policies == {
        "signals": "delete",
        "proposals": "delete",
        "decisions": "delete",
        "dead-letters": "delete",
        "changelog": "compact",
        "ledger": "compact",
        "control": "compact",
        "gates": "delete",
    }


@pytest.mark.parametrize("role", ["changelog", "ledger"])
@pytest.mark.parametrize("horizon_ms", [60_000, DAY_MS, 30 * DAY_MS])
def test_nothing_is_compacted_while_a_memory_counts(role: str, horizon_ms: int) -> None:
    lag = next(need for need in needs_of(role, horizon_ms, 1_000) if need.config == "min.compaction.lag.ms")
    memory_counts_for_ms = horizon_ms + CLOCK_AHEAD_MAX_MS
    assert not lag.met_by(str(memory_counts_for_ms))
    assert lag.met_by(str(memory_counts_for_ms + 60_000))


def test_the_rules_are_never_compacted() -> None:
    """Compaction drops the earlier of two publications of one digest, and with it what was in force in between."""
    (need,) = (need for need in needs_of("control", 0, 1 << 20) if need.config == "min.compaction.lag.ms")
    assert (need.value, need.met_by(str(2**63 - 1)), need.met_by(str(86_400_000))) == (str(2**63 - 1), True, False)


@pytest.mark.parametrize("horizon", ["1h", "24h", "30d"])
def test_what_verify_reads_outlives_the_horizon(horizon: str) -> None:
    lamp = definition(horizon=horizon)
    for step in planned(FakeCluster(), lamp):
        if step.configs["cleanup.policy"] == "delete" and step.topic != "a.gates":  # which verify does not read
            assert int(step.configs["retention.ms"]) >= max(lamp.horizon_ms, 7 * DAY_MS)


def test_the_topics_of_the_app_follow_the_longest_horizon() -> None:
    steps = planned(FakeCluster(), definition("lamp", "1h"), definition("door", "30d"))
    kept = {step.topic: int(step.configs["retention.ms"]) for step in steps if "retention.ms" in step.configs}
    assert kept["a.dead-letters"] > 30 * DAY_MS
    assert kept["a.lamp.signals"] == 7 * DAY_MS


def test_every_input_fits_into_a_dead_letter_and_every_output_into_its_topic() -> None:
    limits = {
        spec.role: int(next(need.value for need in spec.needs if need.config == "max.message.bytes"))
        for spec in required_topics("a", [definition()], record_bytes_max=5_000_000)
    }
    assert limits["signals"] == limits["proposals"] == 5_000_000
    assert limits["dead-letters"] == output_bytes_max(5_000_000) == 2 * 5_000_000 + 65_536
    assert min(limits[role] for role in ("decisions", "changelog", "ledger", "control")) > 5_000_000


# -- what is different -------------------------------------------------------------------------------------------------

EVERY_NEED = [(spec, need) for spec in required_topics("a", [definition()]) for need in spec.needs]


def wrong_values(need: Need) -> list[str]:
    match need.must:
        case Must.IS:
            return ["compact,delete"] if need.config == "cleanup.policy" else ["other"]
        case Must.AT_LEAST:
            return [str(int(need.value) - 1), "0"]
        case Must.AT_MOST:
            return [str(int(need.value) + 1)]


@pytest.mark.parametrize(("spec", "need"), EVERY_NEED, ids=lambda it: getattr(it, "role", None) or it.config)
def test_each_wrong_setting_is_found_and_named(spec: TopicSpec, need: Need) -> None:
    for wrong in wrong_values(need):
        cluster = applied()
        cluster.ends[spec.name] = 1
        cluster.set(spec.name, **{need.config.replace(".", "_"): wrong})
        (step,) = planned(cluster)
        assert step.topic == spec.name
        assert step.finding == f"{need.config} is {wrong}, {need.must} {need.value}: {need.why}"
        assert step.todo
        assert (step.action is Action.ALTER) == (need.change is AlterWhen.ALWAYS)


@pytest.mark.parametrize(("spec", "need"), EVERY_NEED, ids=lambda it: getattr(it, "role", None) or it.config)
def test_what_is_better_than_needed_is_fine(spec: TopicSpec, need: Need) -> None:
    cluster = applied()
    better = {Must.IS: need.value, Must.AT_LEAST: str(2**62), Must.AT_MOST: "1"}[need.must]
    cluster.set(spec.name, **{need.config.replace(".", "_"): better})
    assert planned(cluster) == []


def test_no_limit_is_more_than_any_limit() -> None:
    cluster = applied()
    cluster.set("a.lamp.signals", retention_ms=-1)
    assert planned(cluster) == []


def test_an_odd_number_of_partitions_is_named_beside_the_others() -> None:
    cluster = applied(partitions=4)
    cluster.topics["a.lamp.ledger"] = cluster.topics["a.lamp.ledger"]._replace(partitions=3)
    (step,) = planned(cluster)
    assert (step.action, step.topic) == (Action.REFUSE, "a.lamp.ledger")
    assert step.finding == "has 3 partitions, other topics of `lamp` have 4"


def test_another_number_of_partitions_than_there_is_can_not_be_asked_for() -> None:
    steps = planned(applied(partitions=4), partitions=8)
    assert [step.finding for step in steps] == ["has 4 partitions, asked for are 8"] * 5
    assert {step.action for step in steps} == {Action.REFUSE}
    assert "never changed" in steps[0].todo


def test_entity_types_need_not_have_the_same_number_of_partitions() -> None:
    cluster = applied(definition("lamp"), partitions=4)
    steps = planned(cluster, definition("lamp"), definition("door"), partitions=None)
    assert {step.partitions for step in steps} == {6}
    assert all(step.topic.startswith("a.door.") for step in steps)


def test_a_missing_topic_gets_the_partitions_of_its_entity_type() -> None:
    cluster = applied(partitions=4)
    del cluster.topics["a.lamp.decisions"]
    (step,) = planned(cluster)
    assert (step.action, step.partitions) == (Action.CREATE, 4)


def test_control_has_one_partition() -> None:
    cluster = applied()
    cluster.topics["a.control"] = cluster.topics["a.control"]._replace(partitions=2)
    (step,) = planned(cluster)
    assert (step.action, step.finding) == (Action.REFUSE, "has 2 partitions, asked for are 1")


@pytest.mark.parametrize(("topic", "config"), [("signals", "message.timestamp.type"), ("changelog", "cleanup.policy")])
def test_how_records_are_kept_is_changed_only_before_the_first_one(topic: str, config: str) -> None:
    cluster = applied()
    cluster.set(f"a.lamp.{topic}", **{config.replace(".", "_"): "CreateTime"})
    assert [step.action for step in planned(cluster)] == [Action.ALTER]
    cluster.ends[f"a.lamp.{topic}"] = 1
    (step,) = planned(cluster)
    assert step.action is Action.REFUSE
    assert "delete the topic" in step.todo


@pytest.mark.parametrize(("replicas", "findings"), [(1, 0), (2, 0), (3, 8), (5, 8)])
def test_with_three_replicas_two_must_be_in_sync(replicas: int, findings: int) -> None:
    cluster = applied()
    for name, info in cluster.topics.items():
        cluster.topics[name] = info._replace(replication_factor=replicas)
    found = [step.finding for step in planned(cluster)]
    assert len(found) == findings
    assert all(finding.startswith("min.insync.replicas is 1, must be at least 2") for finding in found)


# -- apply -------------------------------------------------------------------------------------------------------------


def test_apply_makes_it_so_and_the_second_time_does_nothing() -> None:
    cluster, specs = FakeCluster(replication_factor=3), required_topics("a", [definition()])
    done = apply(cluster, specs)
    assert {step.topic for step in done} == set(cluster.topics)
    assert {info.configs["min.insync.replicas"] for info in cluster.topics.values()} == {"2"}
    cluster.changes.clear()
    assert apply(cluster, specs) == []
    assert cluster.changes == []


def test_apply_asks_for_the_replicas_that_were_given() -> None:
    cluster = FakeCluster()
    apply(cluster, required_topics("a", [definition()]), replication_factor=3)
    assert {info.replication_factor for info in cluster.topics.values()} == {3}


def test_apply_mends_what_is_safe_and_leaves_other_settings_alone() -> None:
    cluster = applied()
    cluster.ends = dict.fromkeys(cluster.topics, 9)
    cluster.set("a.lamp.changelog", min_compaction_lag_ms=0, segment_ms=1234)
    (step,) = apply(cluster, required_topics("a", [definition()]))
    assert step.configs == {"min.compaction.lag.ms": str(2 * DAY_MS + 120_000)}
    assert cluster.topics["a.lamp.changelog"].configs["segment.ms"] == "1234"
    assert cluster.changes == ["alter a.lamp.changelog"]


def test_where_a_person_must_decide_apply_changes_nothing_at_all() -> None:
    cluster = applied()
    cluster.set("a.lamp.changelog", min_compaction_lag_ms=0)
    cluster.set("a.lamp.signals", max_message_bytes=9_999_999)
    del cluster.topics["a.control"]
    with pytest.raises(SettingsError) as caught:
        apply(cluster, required_topics("a", [definition()]))
    assert cluster.changes == []
    assert "Nothing was changed" in str(caught.value)
    assert "a.lamp.signals: max.message.bytes is 9999999, must be at most 1048588" in str(caught.value)
    assert "PLACET_RECORD_BYTES_MAX" in str(caught.value)


def test_apply_waits_until_the_brokers_show_it() -> None:
    cluster = FakeCluster(looks_behind=2)
    done = apply(cluster, required_topics("a", [definition()]))
    assert len(done) == 8
    assert planned(cluster) == []


def test_apply_gives_up_on_a_cluster_that_does_not_follow() -> None:
    cluster = FakeCluster(looks_behind=1_000_000)
    with pytest.raises(SettingsError, match=r"does not show it after 0\.5 s:\n  a\.lamp\.signals: is missing"):
        apply(cluster, required_topics("a", [definition()]), timeout_s=0.5)


# -- verify ------------------------------------------------------------------------------------------------------------


def test_verify_finds_nothing_on_what_apply_made() -> None:
    assert verify(applied(), "a", [definition()]) == []


def test_a_longer_horizon_than_the_topics_were_made_for_is_found() -> None:
    problems = verify(applied(definition(horizon="24h")), "a", [definition(horizon="72h")])
    assert {problem.topic for problem in problems} == {"a.lamp.changelog", "a.lamp.ledger"}
    assert all("min.compaction.lag.ms" in problem.text for problem in problems)


def test_a_gate_refuses_wrong_topics_with_every_problem_and_each_advice_once() -> None:
    with pytest.raises(SettingsError) as caught:
        check_topics(FakeCluster(), load_settings({"app": "a"}), [definition()])
    lines = str(caught.value).splitlines()
    assert lines[0] == "The topics are not as they must be:"
    assert len([line for line in lines if line.endswith(": is missing")]) == 8
    assert lines[-1] == "Run `placet topics apply`."
    assert lines.count("Run `placet topics apply`.") == 1


def test_a_larger_limit_of_the_inputs_is_fine_when_the_gate_is_told() -> None:
    cluster = FakeCluster()
    settings = load_settings({"app": "a", "record_bytes_max": 4_000_000})
    apply(cluster, required_topics("a", [definition()], record_bytes_max=settings.record_bytes_max))
    check_topics(cluster, settings, [definition()])
    with pytest.raises(SettingsError, match=r"max\.message\.bytes is 4000000, must be at most 1048588"):
        check_topics(cluster, load_settings({"app": "a"}), [definition()])
