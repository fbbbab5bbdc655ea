"""Looks for the first history that an invariant speaks against, on a copy of the package in which a bug is planted.

`python -m tests.planted.hunt KIND SEEDS`, in the folder of the copy.
"""

from __future__ import annotations

import builtins
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import placet
from tests.simulation.histories import run_history

_CRASH: Final = re.compile(rf"\b({'|'.join(name for name in vars(builtins) if name.endswith('Error'))})\b")


def hunt(kind: str, seeds: int, first: int = 1) -> tuple[int, Sequence[str]]:
    """Return the seed of the first history that is found to be wrong, and what is; 0 where there is none.

    Planted code that breaks by itself is not found: what a gate does of a Python error says nothing of the bug.
    """
    crashed: Sequence[str] = []
    for seed in range(first, seeds + 1):
        wrong = run_history(kind, seed).wrong
        if any(_CRASH.search(one) for one in wrong):
            crashed = wrong
        elif wrong:
            return seed, wrong
    return 0, crashed


if __name__ == "__main__":
    assert Path(placet.__file__).is_relative_to(Path.cwd()), f"not the copy was imported, but {placet.__file__}"
    seed, wrong = hunt(sys.argv[1], *map(int, sys.argv[2:]))
    json.dump({"seed": seed, "wrong": list(wrong)}, sys.stdout)
