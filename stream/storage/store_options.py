"""How RocksDB is configured: every amount of memory and number of files is bounded."""

from pathlib import Path
from typing import Final

import rocksdict

from stream.storage.damage import translated

_MIB: Final = 1 << 20
_RUN_BYTES: Final = 64 * _MIB
_LEAST_RUN_BYTES: Final = 2 * _MIB
_FILES: Final = 2
"""Unsorted files before they are merged. Each holds much the same users, the active ones: with four
of them, as RocksDB has it, a folder was twice as large as its users."""
_BULK_FILES: Final = 12
"""Unsorted files of a restore before they are merged: above what a restore of a million users makes
(that is left to the first minutes of serving), below where reading them all would stall."""
_UNBOUNDED: Final = 1 << 30


class StoreMemory:
    """Memory that the stores of one process share, so that partitions do not multiply it."""

    def __init__(
        self,
        cache_bytes: int = 64 * _MIB,
        write_buffer_bytes: int = 64 * _MIB,
        waiting_records: int = 100_000,
    ) -> None:
        """Reserve nothing yet; all are upper bounds, in bytes and in records."""
        self.cache = rocksdict.Cache(cache_bytes)
        self.waiting_records = waiting_records
        """Changelog records by which the databases may lag, all together."""
        self.stores = 0
        """How many share that."""
        self.write_buffers = rocksdict.WriteBufferManager(write_buffer_bytes, False)
        self.restores = 0
        """How many full restores are under way."""

    @property
    def run_bytes(self) -> int:
        """What one restore may gather before it is written; then as much again meanwhile."""
        return max(_RUN_BYTES // max(self.restores, 1), _LEAST_RUN_BYTES)

    def options(self) -> rocksdict.Options:
        """Return the options of a store that serves."""
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self.cache)
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        table.set_bloom_filter(10, False)
        table.set_block_size(16 << 10)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self.write_buffers)
        options.set_write_buffer_size(16 * _MIB)
        options.set_max_write_buffer_number(3)
        options.set_max_total_wal_size(64 * _MIB)
        options.set_max_open_files(128)
        options.set_max_background_jobs(2)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_level_zero_file_num_compaction_trigger(_FILES)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(_MIB)
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        options.set_paranoid_checks(True)
        return options

    def bulk_options(self) -> rocksdict.Options:
        """Return the options of a store that is filled and hardly read.

        Not compressed: that costs more than all else in loading, and merging does it later.
        """
        options = self.options()
        options.set_compression_type(rocksdict.DBCompressionType.none())
        options.set_level_zero_file_num_compaction_trigger(_BULK_FILES)
        options.set_level_zero_slowdown_writes_trigger(_UNBOUNDED)
        options.set_level_zero_stop_writes_trigger(_UNBOUNDED)
        return options


def open_database(path: Path, options: rocksdict.Options) -> rocksdict.Rdict:
    """Open a folder with these very options.

    Named for the column family too: without that a folder that exists opens with the ones it was
    last used with, as far as those could be written down, which a shared cache cannot.

    Raises:
        StoreLocked: somebody else has it open.
        StoreCorrupt: its files are damaged.
        StoreError: it cannot be read or written.
    """
    with translated(path):
        return rocksdict.Rdict(str(path), options, column_families={"default": options})
