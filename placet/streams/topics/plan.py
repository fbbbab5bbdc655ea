"""Which topics there must be, what each must be like, and what to do about those that are not.

    configs ──────────► specs ─┐
                               ├─ plan (pure) ──► steps ──► apply: creates what is missing, changes what is safe
    observe (asks) ───► found ─┘                  verify: the same steps, told as problems

`apply` never changes a number of partitions (keys would move to other owners) and never lowers a limit. What decides
how records are kept or stamped is changed only while a topic was never written to: later it would be too late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.streams.records import TopicPartition
from placet.streams.topics.configs import RECORD_BYTES_MAX, TWO_IN_SYNC, AlterWhen, Need, TopicSpec, required_topics

if TYPE_CHECKING:
    from placet.streams.kafka.admin import Admin, TopicInfo
    from placet.streams.settings import Settings

__all__ = ["Action", "Step", "TopicProblem", "apply", "check_topics", "observe", "plan", "unfit_settings", "verify"]

_APPLY_TIMEOUT_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.2


class Action(StrEnum):
    """What is to be done: make the topic, change a setting, or nothing that a program may decide."""

    CREATE = "create"
    ALTER = "alter"
    REFUSE = "refuse"


class Step(NamedTuple):
    """One thing that is not as it must be. `partitions` and `configs` are what CREATE and ALTER set."""

    action: Action
    topic: str
    finding: str
    todo: str
    partitions: int = 0
    configs: Mapping[str, str] = {}


class TopicProblem(NamedTuple):
    """Why a gate will not run on a topic, and what to do."""

    topic: str
    text: str
    todo: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.text}. {self.todo}"


def plan(specs: Sequence[TopicSpec], found: Mapping[str, TopicInfo], written: frozenset[str]) -> list[Step]:
    """Compare what must be with what is. Pure.

    Args:
        specs: what must be.
        found: what is, by name; a missing topic is left out.
        written: names of the topics that were ever written to, as far as that matters (see `observe`).

    Returns:
        Everything that is not as it must be, in the order of the specs.
    """
    steps: list[Step] = []
    for spec in specs:
        others = [found[other.name].partitions for other in specs if other.group == spec.group and other.name in found]
        partitions = spec.partitions or _most_common(others) or spec.default_partitions
        info = found.get(spec.name)
        if info is None:
            steps.append(_creation(spec, partitions))
            continue
        if info.partitions != partitions:
            steps.append(_other_count(spec, info.partitions, partitions))
        steps += _differences(spec, info, spec.name in written)
    return steps


def _most_common(counts: Sequence[int]) -> int:
    return Counter(counts).most_common(1)[0][0] if counts else 0


def _creation(spec: TopicSpec, partitions: int) -> Step:
    configs = {need.config: need.wanted or need.value for need in spec.needs}
    return Step(Action.CREATE, spec.name, "is missing", "Run `placet topics apply`.", partitions, configs)


def _other_count(spec: TopicSpec, found: int, wanted: int) -> Step:
    if spec.partitions is None:
        finding = f"has {_counted(found)}, other topics of `{spec.group}` have {wanted}"
    else:
        finding = f"has {_counted(found)}, asked for are {wanted}"
    todo = (
        "One task owns partition n of all topics of an entity type, and another number would move keys to other "
        "owners, so it is never changed. Ask for the number that is there; or, if its records may go, delete the topic "
        "and run `placet topics apply`; or begin anew under another --app."
    )
    return Step(Action.REFUSE, spec.name, finding, todo)


def _counted(partitions: int) -> str:
    return f"{partitions} partition{'s' if partitions != 1 else ''}"


def _differences(spec: TopicSpec, info: TopicInfo, written: bool) -> Iterable[Step]:  # noqa: FBT001 - one of two cases
    for need in _all_needs(spec, info):
        found = info.configs.get(need.config)
        if need.met_by(found):
            continue
        finding = f"{need.config} is {found}, {need.must} {need.value}: {need.why}"
        if need.change is AlterWhen.NEVER or (need.change is AlterWhen.UNWRITTEN and written):
            yield Step(Action.REFUSE, spec.name, finding, need.advice)
        else:
            configs = {need.config: need.wanted or need.value}
            yield Step(Action.ALTER, spec.name, finding, "Run `placet topics apply`.", configs=configs)


def _all_needs(spec: TopicSpec, info: TopicInfo) -> tuple[Need, ...]:
    # How many replicas a topic has is known when it is there: the broker's default may have decided.
    return (*spec.needs, TWO_IN_SYNC) if info.replication_factor >= 3 else spec.needs


def observe(admin: Admin, specs: Sequence[TopicSpec]) -> tuple[dict[str, TopicInfo], frozenset[str]]:
    """Ask the cluster what there is, and which topics were written to where `plan` needs to know.

    Raises:
        BrokerUnreachable, SettingsError: see `Admin`.
    """
    found = admin.describe_topics(spec.name for spec in specs)
    doubtful = [
        spec.name
        for spec in specs
        if spec.name in found and any(step.configs for step in _differences(spec, found[spec.name], written=False))
    ]
    ends = admin.latest_offsets(
        TopicPartition(name, partition) for name in doubtful for partition in range(found[name].partitions)
    )
    return found, frozenset(partition.topic for partition, offset in ends.items() if offset > 0)


def apply(
    admin: Admin, specs: Sequence[TopicSpec], replication_factor: int = -1, timeout_s: float = _APPLY_TIMEOUT_S
) -> list[Step]:
    """Create what is missing and change what is safe, until the cluster shows what must be. Idempotent.

    Args:
        admin: the cluster.
        specs: what must be.
        replication_factor: of topics that are created; -1 for the broker's default.
        timeout_s: how long it may take until the cluster shows all of it.

    Returns:
        What was done.

    Raises:
        SettingsError: something needs a person; then nothing was changed. Or the cluster does not follow in time.
        BrokerUnreachable: see `Admin`.
    """
    deadline_s = admin.clients.monotonic_s() + timeout_s
    done: dict[tuple[str, frozenset[str]], Step] = {}
    before: list[Step] = []
    while steps := plan(specs, *observe(admin, specs)):
        refused = [TopicProblem(step.topic, step.finding, step.todo) for step in steps if step.action is Action.REFUSE]
        if refused:
            raise _refusal(refused, "Nothing was changed, there is something to decide first")
        if admin.clients.monotonic_s() > deadline_s:
            todo = "Look at the brokers' logs, then try again."
            late = [TopicProblem(step.topic, step.finding, todo) for step in steps]
            raise _refusal(late, f"The cluster was told, but does not show it after {timeout_s:g} s")
        if steps == before:
            admin.clients.sleep(_LOOK_AGAIN_S)  # brokers learn from the controller one after the other
        before = steps
        for step in steps:
            _execute(admin, step, replication_factor)
            done.setdefault((step.topic, frozenset(step.configs)), step)
    return list(done.values())


def _execute(admin: Admin, step: Step, replication_factor: int) -> None:
    if step.action is Action.CREATE:
        admin.create_topic(step.topic, step.partitions, replication_factor=replication_factor, configs=step.configs)
    else:
        admin.alter_configs(step.topic, step.configs)


def verify(
    admin: Admin, app: str, definitions: Sequence[Definition], record_bytes_max: int = RECORD_BYTES_MAX
) -> list[TopicProblem]:
    """Return why a gate must not run on these topics; an empty list means that it may.

    Raises:
        BrokerUnreachable, SettingsError: see `Admin`.
    """
    specs = required_topics(app, definitions, record_bytes_max=record_bytes_max)
    return [TopicProblem(step.topic, step.finding, step.todo) for step in plan(specs, *observe(admin, specs))]


def unfit_settings(specs: Sequence[TopicSpec], found: Mapping[str, TopicInfo]) -> dict[str, list[str]]:
    """Return which settings of topics that were as they must be have been changed since. Pure.

    Args:
        specs: what must be.
        found: what is, by name; a missing topic is left out.
    """
    faults = {
        spec.name: [step.finding for step in _differences(spec, found[spec.name], written=True)]
        for spec in specs
        if spec.name in found
    }
    return {name: findings for name, findings in faults.items() if findings}


def check_topics(admin: Admin, settings: Settings, definitions: Sequence[Definition]) -> None:
    """Refuse to run on wrong topics.

    Raises:
        SettingsError: with every problem, and what to do about it.
        BrokerUnreachable: see `Admin`.
    """
    problems = verify(admin, settings.app, definitions, settings.record_bytes_max)
    if problems:
        raise _refusal(problems, "The topics are not as they must be")


def _refusal(problems: Sequence[TopicProblem], headline: str) -> SettingsError:
    found = [f"  {problem.topic}: {problem.text}" for problem in problems]
    todo = dict.fromkeys(problem.todo for problem in problems)  # often the same for all
    return SettingsError("\n".join([f"{headline}:", *found, *todo]))
