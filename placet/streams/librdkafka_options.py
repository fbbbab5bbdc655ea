"""Options of librdkafka that are not the user's to set, and those that stand where the user sets none."""

from __future__ import annotations

__all__ = ["COMMITTED_RECORDS", "OWNED_OPTIONS", "WITHOUT_A_BROKER"]

OWNED_OPTIONS: dict[str, str] = {
    "bootstrap.servers": "set PLACET_KAFKA__BOOTSTRAP_SERVERS",
    "group.id": "the group is named after the app: set PLACET_APP",
    "group.instance.id": "set PLACET_STATIC and PLACET_INSTANCE",
    "group.protocol": "the gate joins by the consumer protocol only (KIP-848)",
    "group.remote.assignor": "signals and proposals of one partition must move together, which `range` does",
    "partition.assignment.strategy": "the broker assigns (KIP-848)",
    "session.timeout.ms": "it is a setting of the broker: group.consumer.session.timeout.ms",
    "heartbeat.interval.ms": "it is a setting of the broker: group.consumer.heartbeat.interval.ms",
    "isolation.level": "state is read committed only",
    "enable.auto.commit": "positions are committed in the transaction only",
    "enable.auto.offset.store": "positions are committed in the transaction only",
    "auto.offset.reset": "a lost position must stop the task, not skip or repeat inputs",
    "enable.partition.eof": "restoring depends on it",
    "allow.auto.create.topics": "run `placet topics apply`: topics made by accident have the wrong settings",
    "check.crcs": "damaged bytes must be noticed",
    "transactional.id": "it is made of app and instance: set PLACET_INSTANCE",
    "transaction.timeout.ms": "set PLACET_TRANSACTION_TIMEOUT_MS",
    "enable.idempotence": "transactions need it",
    "acks": "transactions need all replicas in sync",
    "request.required.acks": "transactions need all replicas in sync",
    "partitioner": "the owner of a key follows from murmur2_random, Java's default",
    "message.max.bytes": "set PLACET_RECORD_BYTES_MAX",
    "test.mock.num.brokers": "the mock cluster shows aborted records and fences no zombies: use `placet broker start`",
}
"""Options that the gate sets itself, and what to do instead."""

COMMITTED_RECORDS: dict[str, object] = {
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "check.crcs": True,
    "queued.max.messages.kbytes": 16_384,
    # The default of a second would hold a full queue's partitions back for a second.
    "fetch.queue.backoff.ms": 10,
}
"""Options of all consumers: committed records only, from positions that are given, with each partition's end told."""

WITHOUT_A_BROKER = {
    # That a broker went away without a word shows in the request that it does not answer, that there is a new leader in
    # metadata asked for anew. The defaults of librdkafka, 60 s and 5 min, are what an absence would cost a partition.
    "socket.timeout.ms": "4000",
    "socket.connection.setup.timeout.ms": "3000",
    "topic.metadata.refresh.interval.ms": "1000",
    "metadata.max.age.ms": "900000",
    "reconnect.backoff.max.ms": "1000",
}
"""Options that all clients have where the user gives no others."""
