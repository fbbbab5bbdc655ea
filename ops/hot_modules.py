"""Which hot modules of a wheel, or of what is installed, are compiled: if one of them is not, that is an error.

python ops/hot_modules.py dist/placet-0.1.0-cp311-cp311-linux_x86_64.whl
python ops/hot_modules.py              the placet that this Python imports
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

__all__ = ["hot_modules"]

ROOT = Path(__file__).parents[1]


def hot_modules() -> list[str]:
    """Return the modules that are compiled in a compiled wheel, as paths in the archive without a suffix."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hook = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]
    return [str(path).removeprefix("/").removesuffix(".py") for path in hook["include"]]


def interpreted(files: Iterable[str]) -> list[str]:
    """Return the hot modules for which none of the files is an extension module."""
    compiled = {file.removesuffix(suffix) for file in files for suffix in EXTENSION_SUFFIXES if file.endswith(suffix)}
    return [module for module in hot_modules() if not any(one.endswith(module) for one in compiled)]


def imported() -> list[str]:
    """Return the files from which the hot modules would be imported."""
    found = (find_spec(module.replace("/", ".")) for module in hot_modules())
    return [spec.origin for spec in found if spec is not None and spec.origin is not None]


def main() -> int:
    """Say how many are compiled, and name those that are not."""
    where = sys.argv[1] if len(sys.argv) > 1 else ""
    missing = interpreted(ZipFile(where).namelist() if where else imported())
    every = len(hot_modules())
    print(
        f"{where or 'what is installed'}: {every - len(missing)} of {every} hot modules are compiled", file=sys.stderr
    )
    for module in missing:
        print(
            f"  {module}.py is not: see [tool.hatch.build.targets.wheel.hooks.mypyc] in pyproject.toml", file=sys.stderr
        )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
