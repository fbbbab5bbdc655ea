"""What a gate makes anew after each trouble, or uses in a restore only, is gone when it was thrown away."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from placet.streams.errors import TransactionAborted
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.group_positions import GroupPositions
from placet.streams.kafka.log_reader import LogReader
from placet.streams.kafka.partition_reader import PartitionReader
from placet.streams.kafka.transactional_producer import TransactionalProducer
from placet.streams.kafka.watchdog import Watchdog
from placet.streams.records import TopicPartition
from placet.streams.recovery.kafka_log import KafkaRestoreLog
from placet.streams.runtime import Spawned

NOBODY = {"bootstrap.servers": "127.0.0.1:1", "log_level": "0"}
READING = {**NOBODY, "group.id": "nobody"}
CLIENTS = (AdminClient, Consumer, Producer)


class Waiting(LocalHost):
    """This machine, whose threads can be waited for, and whose memory is only said to be given back."""

    def __init__(self) -> None:
        self.threads: list[Thread] = []
        self.gave_back = 0

    def spawn(self, name: str, work: Callable[[], None], /) -> Spawned:
        self.threads.append(Thread(target=work, name=name, daemon=True))
        self.threads[-1].start()
        return self.threads[-1]

    def wait_for_threads(self) -> None:
        while self.threads:
            self.threads.pop().join(30)

    def give_back_memory(self) -> None:
        self.gave_back += 1


def admin(host: LocalHost) -> None:
    Admin(host, NOBODY).close()


def log_reader(host: LocalHost) -> None:
    LogReader(host, READING).close()


def restore_log(host: LocalHost) -> None:
    positions = GroupPositions(host, READING, TopicPartition("control", 0))
    KafkaRestoreLog(host, PartitionReader(host, READING, []), Admin(host, NOBODY), positions).close()


def producer(host: LocalHost) -> None:
    made = TransactionalProducer(host, {**NOBODY, "transactional.id": "nobody"}, Watchdog(LocalHost(), 60_000), 1_000)
    made._with_start.limit_s = 0.1
    with suppress(TransactionAborted):
        made.start()
    made.abandon()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """A gate's collector of rings looks so seldom that what only it can free stays for hours."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def clients() -> int:
    return sum(issubclass(type(one), CLIENTS) for one in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("made_and_thrown_away", [admin, log_reader, restore_log, producer])
def test_a_client_that_is_thrown_away_is_gone(made_and_thrown_away: Callable[[LocalHost], None]) -> None:
    host, before = Waiting(), clients()
    made_and_thrown_away(host)
    host.wait_for_threads()
    assert clients() == before


def test_what_restores_used_is_given_back_when_the_last_one_is_over() -> None:
    host = Waiting()
    restore_log(host)
    host.wait_for_threads()
    assert host.gave_back == 1


FREED_BY_A_THREAD = """
import ctypes
from pathlib import Path
from threading import Thread
from placet.streams.host import LocalHost

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

def use_64_mib():
    malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
    malloc.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [malloc(65_536) for _ in range(1_000)]
    for block in blocks:
        ctypes.memset(ctypes.c_void_p(block), 1, 65_536)
    malloc(65_536)  # what stays keeps all that lies before it
    for block in blocks:
        free(block)

thread = Thread(target=use_64_mib)
thread.start()
thread.join()
kept = resident_mib()
LocalHost().give_back_memory()
print(kept - resident_mib())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another allocator than glibc's")
def test_memory_that_a_thread_freed_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FREED_BY_A_THREAD], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) >= 40
