"""The wheel, as a stranger installs it: beside a folder of their own that is named like one of our layers."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import schemas
try:
    import placet.testing
except ImportError as error:
    assert "pip install 'placet[testing]'" in str(error), error
else:
    raise AssertionError("greenlet is there, and nobody asked for it")
from placet.processors.ladder import decide
from placet.definitions import load_definition
import placet
assert schemas.mine, "the user's own folder is not shadowed"
assert "site-packages" in placet.__file__, placet.__file__
"""

TESTING = """
from placet.testing import TestDriver
driver = TestDriver.from_text('{entity: lamp, version: 1, statuses: [lit], signals: {lit: {from: absent, to: lit}}}')
assert driver.signal("l", "lit", signal_id="s-1").changed
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_without_being_asked_nothing_is_compiled(built: Path) -> None:
    """So that a clone, an editable install and an install from sources need no compiler."""
    assert next(built.glob("*.whl")).name.endswith("-py3-none-any.whl")


def test_the_archives_hold_the_package_once_and_nothing_else(built: Path) -> None:
    wheel, sdist = next(built.glob("*.whl")), next(built.glob("*.tar.gz"))
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"placet", wheel.name.split("-py3")[0] + ".dist-info"}
    for needed in ("placet/py.typed", "placet/schemas/contracts/decision.avsc", "placet/devbroker/jgo.lock.toml",
                   "placet/schemas/examples/flight.yaml"):  # fmt: skip
        assert needed in names
    with tarfile.open(sdist) as archive:
        folders = {name.split("/")[1] for name in archive.getnames() if name.count("/") > 1}
    assert folders == {"placet"}


def test_a_stranger_installs_and_uses_it_beside_a_folder_named_schemas(built: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wheel, tested = next(built.glob("*.whl")), ["--constraint", str(ROOT / "ops" / "requirements.txt")]
    subprocess.run([*pip, *tested, str(wheel)], check=True, timeout=240)
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").write_text("mine = True\n")
    subprocess.run([str(python), "-c", PROGRAM], cwd=tmp_path, check=True, timeout=60)
    subprocess.run([*pip, *tested, f"{wheel}[testing]"], check=True, timeout=240)
    subprocess.run([str(python), "-c", TESTING], cwd=tmp_path, check=True, timeout=60)
    command = str(tmp_path / "env" / "bin" / "placet")
    shown = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert "AI proposes, Placet decides" in shown.stdout
    shown = subprocess.run([command, "definitions", "example", "flight"], cwd=tmp_path, capture_output=True, text=True,
                           check=True, timeout=60)  # fmt: skip
    assert "entity: flight" in shown.stdout
