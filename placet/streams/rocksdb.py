"""RocksDB under a task: one database per partition, one column family, write-ahead log on.

Only this module knows rocksdict. Traps it is built around: a second opener rewrites rocksdict's config file before it
fails on the lock, so options are always passed explicitly; and once more for the column family, or an existing one is
opened as its own file says, which can't name a cache or a filter; raw mode, because the default pickles; puts and
writes hold the GIL, so buffers are small; positions live beside the values, because several column families can tear.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    MemtableFactory,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from placet.schemas.errors import PlacetError
from placet.streams.errors import FatalError
from placet.streams.store import Writes

__all__ = ["RocksDBStore", "StoreDamaged", "StoreLocked"]

_WRITE_BUFFER_BYTES: Final = 16 << 20
_BLOCK_CACHE_BYTES: Final = 32 << 20
_BLOOM_BITS_PER_KEY: Final = 10
_MEMTABLE_BLOOM_SHARE: Final = 0.05
"""Most looks are for a dedup key that is new: filters answer them, in memory as on disk."""
_WORTH_A_LIST: Final = 20_000
"""Opening twice takes as long as putting this many records where they belong."""
_LIST_BYTES: Final = 8 << 20
_LISTS_MAX: Final = 4
_FILES_MAX: Final = 16
"""Small lists, for the last is sorted and written while everyone waits; files are merged once, not again and again."""

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
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(_MEMTABLE_BLOOM_SHARE)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    options.set_max_background_jobs(2)
    return options


def _filling_options() -> Options:
    options = _options()
    options.set_memtable_factory(MemtableFactory.vector())
    options.set_allow_concurrent_memtable_write(False)  # only the usual one can
    options.set_memtable_prefix_bloom_ratio(0)  # nothing is looked for
    options.set_write_buffer_size(_LIST_BYTES)
    options.set_max_write_buffer_number(_LISTS_MAX)
    options.set_level_zero_file_num_compaction_trigger(_FILES_MAX)
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
        except BlockingIOError as error:
            os.close(self._lock)
            raise StoreLocked(f"{folder} is in use by another process") from error
        self._folder = folder
        self._write_options = WriteOptions()
        try:
            self._db = self._open_database(_options())
        except StoreDamaged:
            os.close(self._lock)
            raise

    def get(self, key: bytes) -> bytes | None:
        """See `StateStore`."""
        value: bytes | None = self._db.get(key)
        return value

    def write(self, writes: Writes) -> None:
        """See `StateStore`.

        Raises:
            FatalError: the disk does not take it.
        """
        self._apply(writes, self._write_options)

    @contextmanager
    def filling(self, records: int, /) -> Iterator[Callable[[Writes], None]]:
        """See `StateStore`. Without the write-ahead log: batches still reach the disk whole and in order.

        The GIL is held while keys are put where they belong in memory, which is half of a restore's time: for many
        records the database is opened with a plain list there, sorted by a thread of its own when it goes to disk.

        Raises:
            FatalError: the disk does not take it.
            StoreDamaged: what was written can't be opened again.
        """
        options = WriteOptions()
        options.disable_wal = True  # type: ignore[assignment,method-assign]  # a property; the stubs are wrong
        in_a_list = records >= _WORTH_A_LIST
        if in_a_list:
            self._close_database()
            self._db = self._open_database(_filling_options())
        try:
            yield lambda writes: self._apply(writes, options)
        finally:
            self._flush()
            if in_a_list:
                self._close_database()
                self._db = self._open_database(_options())

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
        """See `StateStore`."""
        self._close_database()
        os.close(self._lock)

    def _apply(self, writes: Writes, options: WriteOptions) -> None:
        try:
            self._db.write(_batch(writes), options)
        except Exception as error:  # rocksdict has no other
            raise self._refused(error) from error

    def _flush(self) -> None:
        try:
            self._db.flush()
        except Exception as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> FatalError:
        return FatalError(
            f"{self._folder} can't be written: {error}. Nothing is lost, the log has it all: make room or mend the "
            "disk, then start again. Meanwhile others take over."
        )

    def _open_database(self, options: Options) -> Rdict:
        try:
            return Rdict(str(self._folder / "db"), options, column_families={"default": options})
        except Exception as error:
            raise StoreDamaged(f"{self._folder}: {error}") from error

    def _close_database(self) -> None:
        """Close it, unless opening it again failed. RocksDB keeps its lock while a handle lives: it is dropped too."""
        if db := vars(self).pop("_db", None):
            with suppress(Exception):  # it says once more that it could not be written: then it is behind the log
                db.close()


def _batch(writes: Writes) -> WriteBatch:
    batch = WriteBatch(raw_mode=True)
    put, delete = batch.put, batch.delete
    for key, value in writes.items():
        if value is None:
            delete(key)
        else:
            put(key, value)
    return batch
