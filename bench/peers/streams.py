"""Kafka Streams, exactly once, doing the job of the bench's gates: `kafka_streams/` beside this module.

It reads the very bytes that gates read. It is compiled by Maven, which keeps the jars in its own repository, and runs
on the Java that the embedded broker runs on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro

from bench.peers.missing import PeerMissing
from bench.throughput import SILENCE_S_MAX, rate
from bench.workload import DEFINITION, VALID_FOR_MS, Workload
from bench.world import BenchError, Eyes, Progress, World
from placet.definitions import load_definition
from placet.devbroker.jars import java_home
from placet.schemas.codec.contracts import contracts

SOURCES = Path(__file__).with_name("kafka_streams")
_BUILD_S_MAX = 600
"""With the first download of the jars, 100 MB."""
_MORE_S = 1.0
"""So long is waited for decisions that should not be there."""
_DECISION = SOURCES / "src" / "main" / "resources" / "peer" / "decision.avsc"


class StreamsPeer:
    """The compiled peer.

    Args:
        world: where it is to run.

    Raises:
        PeerMissing: Maven or a Java compiler is not installed, or there is no network for the first build.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._build = world.folder / "kafka-streams-peer"
        self._schema = world.folder / "proposal.avsc"
        self._schema.write_text(json.dumps(contracts(load_definition(DEFINITION)).proposal))
        compile_with_maven(self._build)

    def records_per_s(self, workload: Workload, threads: int, app: str, progress: Progress) -> float:
        """Let it decide the workload, which waits for it; return the rate after the warm-up.

        Raises:
            BenchError: its decisions are not those expected, or it stood still.
        """
        topics = self._world.topics(app)
        self._world.produce(topics.proposals, workload.inputs)
        servers, count = self._world.broker.bootstrap_servers, len(workload.inputs)
        eyes = Eyes(servers, topics.decisions)
        jars = os.pathsep.join((str(self._build / "classes"), (self._build / "classpath").read_text()))
        peer = self._world.process(app, [
            str(java_home() / "bin" / "java"), "-Xmx2g", "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", jars, "peer.Main", servers, app, topics.proposals, topics.decisions,
            str(self._schema), str(VALID_FOR_MS), str(threads), str(self._world.folder / f"{app}-state"),
        ])  # fmt: skip
        per_s, _ = rate(eyes, [peer], count, lambda: True, progress)
        peer.stop()
        found = decided(servers, topics.decisions, count)
        if found != workload.expected:
            raise BenchError(f"decisions of Kafka Streams {dict(found)}, expected {dict(workload.expected)}")
        return per_s


def compile_with_maven(folder: Path) -> None:
    """Compile the peer into a folder, and write down there which jars it needs.

    Raises:
        PeerMissing: it can't be done here.
    """
    for tool in ("mvn", "javac"):
        if shutil.which(tool) is None:
            raise PeerMissing(
                f"Kafka Streams is not measured: {tool} is not on the PATH. Install Maven and a JDK, Java 17 or newer "
                "(Debian: apt-get install maven default-jdk-headless)."
            )
    command = [
        "mvn", "--quiet", "--batch-mode", "--file", str(SOURCES / "pom.xml"), f"-Dpeer.build={folder}",
        f"-Dmdep.outputFile={folder / 'classpath'}", "compile", "dependency:build-classpath",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_S_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise PeerMissing(f"Kafka Streams is not measured: Maven was not done in {_BUILD_S_MAX} s.") from None
    if done.returncode:
        said = next((line for line in done.stdout.splitlines() if "ERROR" in line), "it did not say why")
        raise PeerMissing(
            f"Kafka Streams is not measured: Maven could not compile it ({said}). The first time it needs a network."
        )


def decided(bootstrap_servers: str, topic: str, count: int) -> Counter[str]:
    """Count the committed decisions of a topic by reason, from its beginning, where there should be so many."""
    schema, reasons = fastavro.schema.load_schema(str(_DECISION)), Counter[str]()
    eyes = Eyes(bootstrap_servers, topic, beginning=True)
    while found := eyes.look(_MORE_S if reasons.total() >= count else SILENCE_S_MAX):
        reasons.update(_reason(message.value(), schema) for message in found)
    eyes.close()
    return reasons


def _reason(value: bytes, schema: Any) -> str:
    decision: Any = fastavro.schemaless_reader(BytesIO(value), schema, None)
    return str(decision["reason"])
