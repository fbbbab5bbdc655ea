"""When and where: Kafka, RocksDB, settings, the process. Everything that waits, writes or reads a clock."""
