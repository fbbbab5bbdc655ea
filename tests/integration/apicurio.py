"""A real schema registry without Docker: Apicurio from Maven Central, on the Java runtime of the embedded broker.

Fetched once (158 MB), checked against its sha256, kept beside Kafka's jars. Its data lies in memory.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from jgo.maven import MavenContext

from placet.devbroker.jars import MAVEN_CENTRAL, cache_dir, exclusive, java_home
from placet.devbroker.settings import free_port

__all__ = ["Apicurio", "apicurio"]

GROUP, ARTIFACT, VERSION = "io.apicurio", "apicurio-registry-app", "3.3.3"
SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
READY_S = 120
LOOK_EACH_S = 0.2


class Apicurio(NamedTuple):
    """A registry that runs: the address of its API as Confluent's registry has it."""

    url: str


@contextmanager
def apicurio(folder: Path) -> Iterator[Apicurio]:
    """Run a registry; it is gone afterwards, whatever happened."""
    with tarfile.open(_archive()) as archive:
        archive.extractall(folder, filter="data")
    (jar,) = folder.rglob("quarkus-run.jar")
    port = free_port()
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    environment = {**os.environ, "QUARKUS_HTTP_HOST": "127.0.0.1", "QUARKUS_HTTP_PORT": str(port)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [java_home() / "bin" / "java", "-Xmx384m", "-jar", jar], env=environment, stdout=log, stderr=log
        )
        try:
            _wait_until_ready(process, url, folder / "log")
            yield Apicurio(url)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/subjects", timeout=5):
                return
        except OSError:
            pass
        try:
            process.wait(timeout=LOOK_EACH_S)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(f"Apicurio did not start:\n{log.read_text()[-4000:]}")


def _archive() -> Path:
    """The archive, from the cache or from Maven Central; its bytes are those that were pinned."""
    cache = cache_dir().with_name("apicurio")
    repository = os.environ.get("PLACET_MAVEN_REPOSITORY", MAVEN_CENTRAL)
    with exclusive(cache):
        context = MavenContext(repo_cache=cache, remote_repos={"central": repository}, timeout=120)
        component = context.project(GROUP, ARTIFACT).at_version(VERSION)
        path: Path = component.artifact(classifier="all", packaging="tar.gz").resolve()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != SHA256:
            path.unlink()
            raise AssertionError(f"{path.name} has the sha256 {digest}, expected {SHA256}")
        return path
