"""RocksDB under a task: one database per partition, one column family, write-ahead log on.

Only this module knows rocksdict. Traps it is built around: a second opener rewrites rocksdict's config file before it
fails on the lock, so options are always passed explicitly; and once more for the column family, or an existing one is
opened as its own file says, which can't name a cache or a filter; raw mode, because the default pickles; puts and
writes hold the GIL, so buffers are small; positions live beside the values, because several column families can tear;
errors are bare Exceptions, told apart by RocksDB's words; an iterator that meets damage just ends, as at the end of the
data, and only its status says so: `items()` has no status.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from rocksdict import (
    BlockBasedIndexType,
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
from placet.streams.state.engine import Database, Engine
from placet.streams.state.store import StoreDamaged, StoreLocked, Writes

__all__ = ["LOCK_FILE", "RocksDB", "RocksDBStore"]

LOCK_FILE: Final = "placet.lock"

_WRITE_BUFFER_BYTES: Final = 16 << 20
_BLOCK_CACHE_BYTES: Final = 32 << 20
_BLOOM_BITS_PER_KEY: Final = 10
_PART_BYTES: Final = 4096
_MEMTABLE_BLOOM_SHARE: Final = 0.05
"""Most looks are for a dedup key that is new: filters answer them, in memory as on disk."""
_LIST_BYTES: Final = 8 << 20
_LISTS_MAX: Final = 4
_FILES_MAX: Final = 16
"""Small lists, for the last is sorted and written while everyone waits; files are merged once, not again and again."""
_MANIFEST_BYTES: Final = 1
"""A new one after each change: it holds the first and last key of each file, of those that are gone too."""

_THE_DISK: Final = (
    "No space left on device", "Disk quota exceeded", "File too large", "Read-only file system", "Permission denied",
    "Operation not permitted", "Too many open files", "Cannot allocate memory",
)  # fmt: skip
"""What the machine refuses: the files are sound, and a new database would meet the same. All else is damage."""

_block_cache: list[Cache] = []


def _options() -> Options:
    if not _block_cache:  # one cache for all partitions of the process
        _block_cache.append(Cache(_BLOCK_CACHE_BYTES))
    table = BlockBasedOptions()
    table.set_block_cache(_block_cache[0])
    table.set_bloom_filter(_BLOOM_BITS_PER_KEY, False)
    # In the cache, so that memory is bounded however many entities there are; and in small parts. A whole index or
    # filter has about a byte for each key of a file: the cache, which is split into 64 shards, does not keep it, and
    # each look reads it anew (measured at 250,000 entities: 54 us a look; in parts 1.4).
    table.set_cache_index_and_filter_blocks(True)
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(_PART_BYTES)
    table.set_pin_top_level_index_and_filter(True)
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(_MEMTABLE_BLOOM_SHARE)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    options.set_max_background_jobs(2)
    options.set_max_manifest_file_size(_MANIFEST_BYTES)
    return options


def _filling_options() -> Options:
    options = _options()
    options.set_memtable_factory(MemtableFactory.vector())
    options.set_allow_concurrent_memtable_write(False)  # only the usual one can
    options.set_memtable_prefix_bloom_ratio(0)  # nothing is looked for
    options.set_write_buffer_size(_LIST_BYTES)
    options.set_max_write_buffer_number(_LISTS_MAX)
    options.set_level_zero_file_num_compaction_trigger(_FILES_MAX)
    options.set_max_manifest_file_size(_LIST_BYTES)  # each list is a change: one manifest for all
    return options


class RocksDB:
    """The real `Engine`."""

    worth_a_list = 20_000

    def lock(self, folder: Path, /) -> Callable[[], None]:
        """See `Engine`. By a file of ours: a loser must not even touch rocksdict's config file in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (folder / LOCK_FILE).exists() or os.fstat(lock).st_ino != (folder / LOCK_FILE).stat().st_ino:
                raise BlockingIOError(errno.EAGAIN, "the folder was removed in this moment")
        except OSError:
            os.close(lock)
            raise
        return partial(os.close, lock)

    def open(self, folder: Path, options: Options, /, *, create: bool) -> Database:
        """See `Engine`."""
        options.create_if_missing(create)
        return Rdict(str(folder / "db"), options, column_families={"default": options})

    def batch(self, writes: Writes, /) -> WriteBatch:
        """See `Engine`."""
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in writes.items():
            if value is None:
                delete(key)
            else:
                put(key, value)
        return batch


_rocksdb: Final = RocksDB()


class RocksDBStore:
    """One task's store in a folder of its own.

    Args:
        folder: made where it is not there.
        engine: locks the folder and opens the database in it.

    Raises:
        StoreDamaged: there is something in the folder that can't be opened.
        StoreLocked: another process has it.
        FatalError: the folder can't be made or written, whatever is in it.
    """

    def __init__(self, folder: Path, engine: Engine = _rocksdb) -> None:
        self._folder = folder
        self._engine = engine
        self._batch = engine.batch
        self._unlock = self._lock_folder()
        self._write_options = WriteOptions()
        try:
            self._db = self._open_database(_options(), create=True)
        except PlacetError:
            self._unlock()
            raise

    def get(self, key: bytes) -> bytes | None:
        """See `StateStore`."""
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:  # rocksdict has no other
            raise self._failed(error) from error
        return value

    def write(self, writes: Writes) -> None:
        """See `StateStore`. What failed in the background, such as a compaction that met damage, is told here."""
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
        in_a_list = records >= self._engine.worth_a_list
        if in_a_list:
            self._reopen(_filling_options())
        try:
            yield lambda writes: self._apply(writes, options)
        finally:
            self._flush()
            if in_a_list:
                self._reopen(_options())

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """See `StateStore`."""
        found: list[tuple[bytes, bytes]] = []
        pairs = self._db.iter()
        try:
            pairs.seek(max(prefix, start))
            while len(found) < limit and pairs.valid() and (key := pairs.key()).startswith(prefix):
                found.append((key, pairs.value()))
                pairs.next()
            pairs.status()  # raises where it ended because it met damage
        except Exception as error:
            raise self._failed(error) from error
        finally:
            del pairs  # an error's traceback would keep it, and with it the database and its lock
        return found

    def clean(self, older_than_s: int, /) -> None:
        """See `StateStore`. Waits only where the store is small: then its files are merged at once.

        A value is gone once a file that deletes it was merged with the one that has it. "ttl" lets a file of this age
        go down a level, and so on to the lowest one, unless there is none below the first; the other option writes each
        file anew, and drops keys that mark a deletion. RocksDB looks at ages only where something is written or an
        option is set, so an idle store would keep all; and what was deleted in memory alone is in no file yet.
        """
        age = str(older_than_s)
        try:
            self._db.flush(wait=False)
            if not any(file["level"] for file in self._db.live_files()):
                self._db.compact_range(None, None)
            self._db.set_options({"ttl": age, "periodic_compaction_seconds": age})
        except Exception as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """See `StateStore`."""
        self._close_database()
        self._unlock()

    def _lock_folder(self) -> Callable[[], None]:
        try:
            return self._engine.lock(self._folder)
        except BlockingIOError as error:
            raise StoreLocked(f"{self._folder} is in use by another process") from error
        except OSError as error:
            raise _unusable(self._folder, error) from error

    def _apply(self, writes: Writes, options: WriteOptions) -> None:
        try:
            self._db.write(self._batch(writes), options)
        except Exception as error:
            raise self._failed(error) from error

    def _flush(self) -> None:
        try:
            self._db.flush()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> PlacetError:
        if isinstance(error, AttributeError):
            raise error  # used after it was closed: a bug, no damage
        if any(words in str(error) for words in _THE_DISK):
            return _unusable(self._folder, error)
        return StoreDamaged(f"{self._folder}: {error}")

    def _open_database(self, options: Options, *, create: bool) -> Database:
        try:
            return self._engine.open(self._folder, options, create=create)
        except Exception as error:
            raise self._failed(error) from error

    def _reopen(self, options: Options) -> None:
        """Open it with other options. One that is gone is not made anew: what was in it would be missing unseen."""
        self._close_database()
        self._db = self._open_database(options, create=False)

    def _close_database(self) -> None:
        """Close it, unless opening it again failed. RocksDB keeps its lock while a handle lives: it is dropped too."""
        if db := vars(self).pop("_db", None):
            with suppress(Exception):  # it says once more that it could not be written: then it is behind the log
                db.close()


def _unusable(folder: Path, error: Exception) -> FatalError:
    return FatalError(
        f"{folder} can't be written: {error}. Nothing is lost, the log has it all: make room or mend the disk, then "
        "start again. Meanwhile others take over."
    )
