"""The local store of a task: what lies under which key, in RocksDB or in memory."""
