"""RocksDB under a task: one database per partition, one column family, write-ahead log on.

Only this module knows rocksdict. Traps it is built around: a second opener rewrites rocksdict's config file before it
fails on the lock, so options are always passed explicitly; raw mode, because the default pickles; puts and writes hold
the GIL, so buffers are small; positions live beside the values, because several column families can tear.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch, WriteOptions

from placet.schemas.errors import PlacetError
from placet.streams.store import Writes

__all__ = ["RocksDBStore", "StoreDamaged", "StoreLocked"]

_WRITE_BUFFER_BYTES: Final = 16 << 20
_BLOCK_CACHE_BYTES: Final = 32 << 20
_BLOOM_BITS_PER_KEY: Final = 10

_block_cache: list[Cache] = []


class StoreDamaged(PlacetError):
    """The folder holds no database that can be opened. Reaction: set it aside and restore."""


class StoreLocked(PlacetError):
    """Another process has the folder open. Reaction: wait; two gates must not share a state directory."""


def _options() -> Options:
    if not _block_cache:  # one cache for all partitions of the process
        _block_cache.append(Cache(_BLOCK_CACHE_BYTES))
    table = BlockBasedOptions()
    table.set_block_cache(_block_cache[0])
    table.set_bloom_filter(_BLOOM_BITS_PER_KEY, False)
    table.set_cache_index_and_filter_blocks(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    options.set_max_background_jobs(2)
    return options


class RocksDBStore:
    """One task's store in a folder of its own.

    Raises:
        StoreDamaged: there is something in the folder that can't be opened.
        StoreLocked: another process has it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Our own lock first: a loser must not even touch rocksdict's config file in the folder.
        self._lock = os.open(folder / "placet.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._db = Rdict(str(folder / "db"), _options())
        except BlockingIOError as error:
            os.close(self._lock)
            raise StoreLocked(f"{folder} is in use by another process") from error
        except Exception as error:
            os.close(self._lock)
            raise StoreDamaged(f"{folder}: {error}") from error
        self._write_options, self._load_options = WriteOptions(), WriteOptions()
        self._load_options.disable_wal = True  # type: ignore[assignment,method-assign]  # a property; the stubs are wrong

    def get(self, key: bytes) -> bytes | None:
        """See `StateStore`."""
        value: bytes | None = self._db.get(key)
        return value

    def write(self, writes: Writes) -> None:
        """See `StateStore`."""
        self._db.write(_batch(writes), self._write_options)

    def load(self, writes: Writes) -> None:
        """See `StateStore`. Without the write-ahead log: batches still reach the disk whole and in order."""
        self._db.write(_batch(writes), self._load_options)

    def flush(self) -> None:
        """See `StateStore`."""
        self._db.flush()

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See `StateStore`."""
        found: list[tuple[bytes, bytes]] = []
        pairs: Iterable[tuple[bytes, bytes]] = self._db.items(from_key=max(prefix, start))  # type: ignore[assignment]  # raw mode gives bytes
        for key, value in pairs:
            if len(found) == limit or not key.startswith(prefix):
                break
            found.append((key, value))
        return found

    def close(self) -> None:
        """See `StateStore`. Handles are dropped too: RocksDB keeps its lock while one of them lives."""
        self._db.close()
        del self._db
        os.close(self._lock)


def _batch(writes: Writes) -> WriteBatch:
    batch = WriteBatch(raw_mode=True)
    put, delete = batch.put, batch.delete
    for key, value in writes.items():
        if value is None:
            delete(key)
        else:
            put(key, value)
    return batch
