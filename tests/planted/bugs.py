"""Bugs as patch files: each takes away one thing that keeps data safe. The simulation has to find it by its invariants.

A file begins with a paragraph that says what is taken away and what that would cost a user, and with the kind of worlds
in which it shows. It is applied to a copy of the package, and what looks for it runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

__all__ = [
    "BUGS",
    "ROOT",
    "SEEDS_MAX",
    "Found",
    "PlantedBug",
    "found_first",
    "planted",
    "run_on",
    "why_it_does_not_apply",
]

ROOT: Final = Path(__file__).parents[2]
SEEDS_MAX: Final = 2_000
_WORLD: Final = "World: "


class PlantedBug(NamedTuple):
    """A patch file: what it takes away and costs, in words, and the kind of worlds in which that shows."""

    file: Path
    words: str
    world: str

    @property
    def name(self) -> str:
        return self.file.stem


class Found(NamedTuple):
    """The first history in which a bug shows: its seed, 0 where there is none, and what did not hold in it."""

    seed: int
    wrong: list[str]


def _read(file: Path) -> PlantedBug:
    head, _, _ = file.read_text(encoding="utf-8").partition("\n--- ")
    words, _, world = head.partition(f"\n\n{_WORLD}")
    return PlantedBug(file, " ".join(words.split()), world.strip())


BUGS: Final = {file.stem: _read(file) for file in sorted(Path(__file__).parent.glob("*.patch"))}


def why_it_does_not_apply(bug: PlantedBug, folder: Path, *options: str) -> str:
    """Apply a patch in a folder, or with `--check` only try to; return why it can't be, "" where it can."""
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}  # within a repository git looks there alone
    done = subprocess.run(
        ["git", "apply", *options, str(bug.file)], check=False, cwd=folder, env=env, capture_output=True, text=True
    )
    if done.returncode == 0:
        return ""
    file = bug.file.relative_to(ROOT)
    return f"{file} does not apply any more. Make its change in the code as it is now, and mend the file: {done.stderr}"


@contextmanager
def planted(bug: PlantedBug) -> Iterator[Path]:
    """Copy the package into a new folder, and plant a bug in the copy."""
    with TemporaryDirectory(prefix="placet-planted-") as name:
        folder = Path(name).resolve()
        shutil.copytree(ROOT / "placet", folder / "placet", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        why = why_it_does_not_apply(bug, folder)
        assert not why, why
        yield folder


def run_on(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the tests on a copy of the package, in a process of its own."""
    env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], check=False, cwd=folder, env=env, capture_output=True, text=True
    )


def found_first(bug: PlantedBug, seeds_max: int = SEEDS_MAX) -> Found:
    """Return the first history in which a bug shows."""
    with planted(bug) as folder:
        done = run_on(folder, "tests.planted.hunt", bug.world, str(seeds_max))
    assert done.returncode == 0, done.stderr
    return Found(**json.loads(done.stdout))
