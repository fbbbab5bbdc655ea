"""The demo's modules for tests: `ops/` is no package, its files import one another by their names."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

OPS = Path(__file__).parents[2] / "ops"


def imported(name: str) -> ModuleType:
    """Return a module of the folder ops."""
    if str(OPS) not in sys.path:
        sys.path.append(str(OPS))  # at the end: nothing there hides anything else
    return import_module(name)
