"""What a gate does when a call into a client or a store fails: found out by letting each call fail in each way.

Nothing here repeats what the code says: the real wrappers run on clients and stores of which one call fails, and what
comes out of the wrapper is the reaction. A call of a protocol that is not staged is missing in `staged()`, and a test
says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast

from confluent_kafka import KafkaError, KafkaException, TopicCollection

from placet.schemas.errors import PlacetError
from placet.streams.errors import FatalError, TaskStopped
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.consumer import GroupConsumer
from placet.streams.kafka.group_positions import GroupPositions
from placet.streams.kafka.group_reader import GroupReader
from placet.streams.kafka.log_reader import LogReader
from placet.streams.kafka.partition_reader import PartitionReader
from placet.streams.kafka.plain_producer import DurableProducer, produce_durably
from placet.streams.kafka.transactional_producer import TransactionalProducer
from placet.streams.loop import task_calls
from placet.streams.records import ProducerRecord, TopicPartition
from placet.streams.recovery.left_behind import LeftBehind
from placet.streams.recovery.restore_thread import Job, Restorer
from placet.streams.recovery.set_aside import SetAside
from placet.streams.state.state_dir import check_state_dir
from placet.streams.state.store import MemoryStore, StoreDamaged, StoreLocked
from placet.streams.topology import TaskId
from placet.testing import TestDriver
from tests.memory_log import log_of

__all__ = ["ERRORS", "STORE_ERRORS", "Row", "staged"]

AT: Final = TopicPartition("t", 0)
GOES_ON: Final = "goes on"


def kafka(code: int, *, fatal: bool = False) -> Callable[[], Exception]:
    return lambda: KafkaException(KafkaError(code, "staged", fatal))


ERRORS: Final[Mapping[str, Callable[[], Exception]]] = {
    "no answer": kafka(KafkaError._TIMED_OUT),
    "no connection": kafka(KafkaError._TRANSPORT),
    "not a member": kafka(KafkaError.UNKNOWN_MEMBER_ID),
    "fenced": kafka(KafkaError._FENCED, fatal=True),
    "no right": kafka(KafkaError.TOPIC_AUTHORIZATION_FAILED),
    "any other": kafka(KafkaError._FAIL),
    "fatal": kafka(KafkaError._FATAL, fatal=True),
    "lost by the binding": lambda: SystemError("flush returned NULL without setting an exception"),
}
"""Ways in which a call into Kafka's client fails."""
STORE_ERRORS: Final[Mapping[str, Callable[[], Exception]]] = {
    "damage": lambda: StoreDamaged("staged"),
    "the disk refuses": lambda: FatalError("staged"),
}
"""Ways in which a call of a store fails: all else that RocksDB says is one of them."""


class Row(NamedTuple):
    """A call, who makes it, and what comes of each way in which it fails."""

    protocol: str
    call: str
    by: str
    reactions: dict[str, str]


class Failing:
    """A client of which one call fails; all others succeed."""

    def __init__(self, call: str, error: Exception) -> None:
        self.fails = call
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            if name == self.fails:
                raise self._error
            return SUCCEEDS.get(name, lambda: None)()

        return call

    def __len__(self) -> int:
        return 0


SUCCEEDS: Final[Mapping[str, Callable[[], Any]]] = {
    # A member of epoch 1, as librdkafka writes it down.
    "consumer_group_metadata": lambda: b"CGMDv2:\x00\x00\x00\x01g\x00m\x00\x00",
    "consume": list,
    "flush": int,
    "committed": list,
    "get_watermark_offsets": lambda: (0, 0),
}


END: Final = SimpleNamespace(
    error=lambda: KafkaError(KafkaError._PARTITION_EOF), topic=lambda: "t", partition=lambda: 0, offset=lambda: 0
)
"""A message that tells of a partition's end."""


class StagedClients(LocalHost):
    """Makes one client for all purposes, and does not wait."""

    def __init__(self, client: Any) -> None:
        self.consumer = self.producer = self.admin = lambda _options: client  # type: ignore[method-assign]
        self.sleep = lambda _seconds: None  # type: ignore[method-assign]


def reaction(use: Callable[[], object]) -> str:
    """Return the name of what a use of a wrapper raises, or that it raises nothing."""
    try:
        use()
    except PlacetError as error:
        return type(error).__name__
    except Exception as error:  # noqa: BLE001 - the finding: it would end the process with a traceback
        return f"!{type(error).__name__}"
    return GOES_ON


Use = Callable[[Any], Callable[[], object]]
"""Makes a wrapper on a failing client; what it returns uses the wrapper, and that is judged."""


def member(client: Any) -> GroupConsumer:
    made = GroupConsumer(StagedClients(client), {}, ["t"])
    made.assigned.add(AT)
    return made


def flowing(client: Any) -> GroupConsumer:
    made = member(client)
    made._fetched.add(AT)
    made._flowing.add(AT)
    return made


def paused(client: Any) -> GroupConsumer:
    made = flowing(client)
    made._paused.add(AT)
    return made


def broken(client: Any) -> GroupConsumer:
    made = flowing(client)
    made._broken.add(AT)
    return made


def polled(client: Any) -> Callable[[], object]:
    """Polling where a message has come already, so that all of its calls are made."""
    if client.fails != "poll":
        client.poll = lambda *_: END
    made = member(client)
    return lambda: made.poll_batch(10, 0)


class NoWatchdog:
    @contextmanager
    def armed(self, _call: str) -> Iterator[None]:
        yield


def transaction(client: Any) -> Callable[[], object]:
    producer = TransactionalProducer(
        StagedClients(client), {"transactional.id": "x"}, cast("Any", NoWatchdog()), 1_000_000
    )

    def use() -> None:
        with producer.transaction() as opened:
            opened.send([RECORD])
            opened.commit({AT: 1}, b"")

    return use


def idle_producer(client: Any) -> Callable[[], object]:
    producer = TransactionalProducer(StagedClients(client), {"transactional.id": "x"}, cast("Any", NoWatchdog()), 1)
    producer._producer = client
    return producer.serve


def thrown_away(client: Any) -> Callable[[], object]:
    producer = TransactionalProducer(StagedClients(client), {"transactional.id": "x"}, cast("Any", NoWatchdog()), 1)
    producer._producer = client
    return producer.abandon


RECORD: Final = ProducerRecord("t", 0, b"k", b"v")


def unheard(_failure: str, _place: object) -> None:
    pass


def published(client: Any) -> Callable[[], object]:
    return lambda: produce_durably(StagedClients(client), {}, "t")(b"", b"")


def reader(client: Any) -> PartitionReader:
    return PartitionReader(StagedClients(client), {}, ())


def partition_read(client: Any) -> Callable[[], object]:
    """Reading where a message has come already, so that all of its calls are made."""
    if client.fails != "poll":
        client.poll = lambda *_: END
    made = reader(client)

    def use() -> None:
        made.start(AT, 0)
        made.poll()
        made.take(AT)
        made.stop(AT)
        if made.broken:
            made.start(AT, 0)

    return use


GROUP: Final = "the group's member"
TRANSACTION: Final = "a transaction"
RESTORE: Final = "a restore"
FOLLOW: Final = "the follower of rules, clients, verify"

CONSUMER: Final[list[tuple[str, str, Use]]] = [
    ("subscribe", GROUP, lambda client: lambda: member(client)),
    *((call, GROUP, polled) for call in ("poll", "consume", "consumer_group_metadata")),
    ("incremental_assign", GROUP, lambda client: lambda: member(client).start({AT: 0})),
    ("incremental_unassign", GROUP, lambda client: lambda: broken(client).start({AT: 0})),
    ("seek", GROUP, lambda client: lambda: flowing(client).start({AT: 0})),
    ("resume", GROUP, lambda client: lambda: paused(client).start({AT: 0})),
    ("pause", GROUP, lambda client: lambda: flowing(client).pause([AT])),
    ("get_watermark_offsets", GROUP, lambda client: lambda: flowing(client).lag({AT: 0})),
    ("close", GROUP, lambda client: lambda: member(client)._close()),
    ("list_topics", RESTORE, lambda client: lambda: PartitionReader(StagedClients(client), {}, ["t"])),
    ("incremental_assign", RESTORE, partition_read),
    ("poll", RESTORE, partition_read),
    ("consume", RESTORE, partition_read),
    ("incremental_unassign", RESTORE, partition_read),
    ("committed", RESTORE, lambda client: lambda: GroupPositions(StagedClients(client), {}, AT).ask([AT]).result(10)),
    ("close", RESTORE, lambda client: lambda: reader(client).close()),
    ("assign", FOLLOW, lambda client: lambda: LogReader(StagedClients(client), {}).read(AT, 0, 1, lambda *_: False)),
    ("unassign", FOLLOW, lambda client: lambda: LogReader(StagedClients(client), {}).read(AT, 0, 1, lambda *_: False)),
    ("incremental_unassign", FOLLOW, lambda client: lambda: LogReader(StagedClients(client), {}).leave([AT])),
    ("commit", "a client's group", lambda client: lambda: GroupReader(StagedClients(client), {}, "t").commit({AT: 1})),
]
PRODUCER: Final[list[tuple[str, str, Use]]] = [
    *((call, TRANSACTION, transaction) for call in (
        "init_transactions", "begin_transaction", "produce", "flush", "send_offsets_to_transaction",
        "commit_transaction",
    )),
    ("poll", "the loop, without a transaction", idle_producer),
    *((call, "a producer that is thrown away", thrown_away) for call in ("purge", "abort_transaction")),
    ("produce", "a publication of rules", published),
    ("flush", "a publication of rules", published),
    ("produce", "clients", lambda client: lambda: DurableProducer(StagedClients(client), {}).send(RECORD, unheard)),
    ("poll", "clients", lambda client: DurableProducer(StagedClients(client), {}).serve),
]  # fmt: skip


class Told:
    """A message that is an error: of a partition, or of the client as a whole."""

    def __init__(self, error: KafkaError, partition: int) -> None:
        self.error = lambda: error
        self.topic = lambda: "t" if partition >= 0 else ""
        self.partition = lambda: partition
        self.offset = lambda: 0

    def __len__(self) -> int:
        return 0


def told(code: int, *, of_a_partition: bool, fatal: bool = False) -> Told:
    return Told(KafkaError(code, "staged", fatal), 0 if of_a_partition else -1)


def heard(make: Callable[[Any], Any], use: Callable[[Any], object], message: Told) -> str:
    client = Failing("", ValueError())
    client.poll = lambda *_: message  # type: ignore[method-assign]
    made = make(client)
    return reaction(lambda: use(made))


MESSAGES: Final[Mapping[str, Callable[[], Told]]] = {
    "of a partition: out of range": lambda: told(KafkaError._AUTO_OFFSET_RESET, of_a_partition=True),
    "of a partition: no right": lambda: told(KafkaError.TOPIC_AUTHORIZATION_FAILED, of_a_partition=True),
    "of a partition: any other": lambda: told(KafkaError._TRANSPORT, of_a_partition=True),
    "not a member": lambda: told(KafkaError.UNKNOWN_MEMBER_ID, of_a_partition=False),
    "no right to the group": lambda: told(KafkaError.GROUP_AUTHORIZATION_FAILED, of_a_partition=False),
    "brokers too old": lambda: told(KafkaError.UNSUPPORTED_VERSION, of_a_partition=False),
    "fatal": lambda: told(KafkaError._STATE, of_a_partition=False, fatal=True),
    "any other": lambda: told(KafkaError._ALL_BROKERS_DOWN, of_a_partition=False),
}
"""Errors that come among the messages of a poll."""


def member_hears(message: Told) -> str:
    def use(made: GroupConsumer) -> None:
        made.poll_batch(1, 0)
        for partition in made.take_out_of_range():
            raise TaskStopped(TaskId("t", partition.partition), "or the leader says that nothing is the matter")

    return heard(flowing, use, message)


def restore_hears(message: Told) -> str:
    def use(made: PartitionReader) -> None:
        made.start(AT, 0)
        made.poll()
        made.take(AT)

    return heard(reader, use, message)


class Failed(dict[Any, Future[Any]]):
    """An answer of the admin client: whatever was asked for has failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def __missing__(self, _key: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(self._error)
        return future


def admin(call: str, error: Exception) -> Admin:
    client = Failing("list_topics", error)
    found = Failed(error)
    setattr(client, call, lambda *asked, **_: found[0] if call == "describe_cluster" else answer_to(found, asked))
    return Admin(StagedClients(client), {"bootstrap.servers": "b:9092"}, 0.0)


def answer_to(found: Failed, asked: tuple[Any, ...]) -> Failed:
    names = ["t"] if isinstance(asked[0], TopicCollection) else asked[0]
    found.update({name: found[name] for name in names})
    return found


ADMIN: Final[list[tuple[str, Callable[[Admin], object]]]] = [
    ("describe_cluster", lambda it: it.cluster()),
    ("describe_topics", lambda it: it.describe_topics(["t"])),
    ("create_topics", lambda it: it.create_topic("t", 1)),
    ("describe_configs", lambda it: it.broker_configs(1)),
    ("incremental_alter_configs", lambda it: it.alter_configs("t", {"a": "b"})),
    ("list_offsets", lambda it: it.latest_offsets([AT])),
    ("describe_consumer_groups", lambda it: it.coordinator_and_members("g")),
]
ADMIN_ERRORS: Final = ("no answer", "no connection", "no right", "any other")
NEVER_FAIL: Final[Mapping[tuple[str, str], str]] = {
    ("ProducerCalls", "__len__"): "counts",
    ("AdminCalls", "poll"): "serves callbacks",
    ("AdminCalls", "__exit__"): "ends the client",
    ("StateStore", "close"): "is the last call: what fails then is behind the log, and the next restore finds it",
    ("Disk", "exists"): "says no where it can't look",
    ("Disk", "stores"): "leaves out what it can't look at",
}
"""Calls that raise nothing, and why."""


class FailingStore(MemoryStore):
    """A store of which one call fails."""

    def __init__(self, call: str, error: Exception) -> None:
        super().__init__()
        if call:
            setattr(self, call, self._fail)
        self._error = error

    def _fail(self, *_: Any) -> Any:
        raise self._error


def task_on(store: MemoryStore) -> Any:
    """A task that makes one call of its store, as the real one does."""
    return SimpleNamespace(
        task_id=TaskId("t", 0), topics=SimpleNamespace(changelog="c", ledger="l"),
        process=lambda *_: store.get(b""), committed=lambda _: store.write({}),
        needs_housekeeping=lambda _: store.scan(b"", b"", 1), store=store, cleaned_ms=0,
    )  # fmt: skip


def stored(task: Any) -> None:
    error = task_calls.store(task, cast("Any", SimpleNamespace(written={})))
    if error is not None:
        raise error


STORE: Final[list[tuple[str, str, Callable[[Any], object]]]] = [
    ("get", "deciding", lambda task: task_calls.process(task, [], task_calls.Moment(0, 0), 1)),
    ("write", "after the commit", stored),
    ("scan", "housekeeping", lambda task: task_calls.needs_housekeeping(task, 0)),
    ("clean", "housekeeping", lambda task: task_calls.clean([task], 1, 0)),
]


def restored(open_store: Callable[[Path], MemoryStore]) -> str:
    """What becomes of a restore whose store fails once; "waits" where it goes on trying."""
    driver = TestDriver.from_text(LAMP)
    driver.signal("l", "lit", signal_id="s")
    with TemporaryDirectory() as folder:
        host = LocalHost()
        host.open_store = open_store  # type: ignore[method-assign,assignment]
        restorer = Restorer(host, host, lambda: log_of(driver), Path(folder))
        job = Job(TaskId("lamp", 0), driver.entity_type)
        try:
            restorer.submit(job)
            until_s = host.monotonic_s() + 10
            while (done := restorer.take_done()) is None:
                if job.waits_for:
                    return "waits"
                assert host.monotonic_s() < until_s, "no end, and nothing that it waits for"
                host.sleep(0.001)
            aside = restorer.take_set_aside()
        finally:
            restorer.close()
    if done.error is not None:
        return type(done.error).__name__
    return "TaskCorrupted" if aside else GOES_ON


LAMP: Final = """
entity: lamp
version: 1
horizon: 10m
statuses: [off, on]
signals: {lit: {from: absent, to: on}}
"""


def failing_first(call: str, error: Exception) -> Callable[[Path], MemoryStore]:
    """Opens a store that fails, and afterwards sound ones."""
    stores = iter([FailingStore(call, error)])
    return lambda _: next(stores, MemoryStore())


def refusing_once(error: Exception) -> Callable[[Path], MemoryStore]:
    errors = iter([error])

    def open_store(_: Path) -> MemoryStore:
        found = next(errors, None)
        if found is not None:
            raise found
        return MemoryStore()

    return open_store


def set_aside(call: str) -> Callable[[], object]:
    def refuse(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    host = LocalHost()
    host.exists = lambda _: True  # type: ignore[method-assign]
    host.remove = host.rename = lambda *_: None  # type: ignore[method-assign]
    setattr(host, call, refuse)
    return lambda: SetAside(host, host.monotonic_s).damaged(TaskId("t", 0), Path("x"), "staged")


def left_behind() -> object:
    def refuse(_: Path) -> bool:
        raise OSError(30, "Read-only file system")

    host = LocalHost()
    host.stores = lambda _: [(Path("x/0"), 0)]  # type: ignore[method-assign]
    host.remove_unused = refuse  # type: ignore[method-assign]
    return LeftBehind(host, host.now_ms, Path("x"), 1_000).remove()


def tried() -> object:
    def refuse(_: Path) -> None:
        raise OSError(30, "Read-only file system")

    host = LocalHost()
    host.try_folder = refuse  # type: ignore[method-assign]
    return check_state_dir(host, Path("x"))


def staged() -> list[Row]:
    """Let every call fail in every way."""
    rows = []
    for protocol, uses in (("ConsumerCalls", CONSUMER), ("ProducerCalls", PRODUCER)):
        for call, by, use in uses:
            found = {name: reaction(use(Failing(call, error()))) for name, error in ERRORS.items()}
            rows.append(Row(protocol, call, by, found))
    for by, hears in ((GROUP, member_hears), (RESTORE, restore_hears)):
        rows.append(Row("Message", "error", by, {name: hears(message()) for name, message in MESSAGES.items()}))
    for call, ask in ADMIN:
        found = {name: reaction(lambda c=call, n=name, a=ask: a(admin(c, ERRORS[n]()))) for name in ADMIN_ERRORS}
        rows.append(Row("AdminCalls", call, "a start, a question about ends, a command", found))
    text = reaction(lambda: admin("list_offsets", ERRORS["no answer"]()).latest_offsets([AT]))
    rows.append(Row("AdminCalls", "list_topics", "the text of that error", {"no answer": text}))
    for call, by, use_store in STORE:
        found = {
            name: reaction(lambda c=call, e=error, u=use_store: u(task_on(FailingStore(c, e()))))
            for name, error in STORE_ERRORS.items()
        }
        rows.append(Row("StateStore", call, by, found))
    for call in ("get", "write", "filling"):
        found = {name: restored(failing_first(call, error())) for name, error in STORE_ERRORS.items()}
        rows.append(Row("StateStore", call, RESTORE, found))
    opening = {**STORE_ERRORS, "held by a process": lambda: StoreLocked("staged")}
    found = {name: restored(refusing_once(error())) for name, error in opening.items()}
    rows.append(Row("Disk", "open_store", RESTORE, found))
    rows += [
        Row("Disk", call, "a store that is set aside", {"the disk refuses": reaction(set_aside(call))})
        for call in ("rename", "remove")
    ]
    rows.append(Row("Disk", "remove_unused", "a store that no task uses", {"the disk refuses": reaction(left_behind)}))
    rows.append(Row("Disk", "try_folder", "a start", {"the disk refuses": reaction(tried)}))
    return rows
