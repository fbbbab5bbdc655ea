"""House rules that no linter knows: sizes, documented settings and reasons, nothing banned."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.hot_modules import hot_modules
from placet.schemas.decision import REASONS, Reason
from placet.streams.settings import PREFIX, Settings
from placet.streams.telemetry.metrics import METRICS

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "placet").rglob("*.py"))
TEXTS = [
    *MODULES,
    *(file for folder in ("tests", "demo", "bench") for file in sorted((ROOT / folder).rglob("*.py"))),
    *sorted((ROOT / "ops").iterdir()),
    *ROOT.glob("*.md"),
]
MODULE_LINES_MAX, FUNCTION_LINES_MAX, RUN_LOOP_LINES_MAX = 350, 70, 30
MARKS = tuple(word[::-1] for word in ("ODOT", "EMXIF", "KCAH"))
BANNED_NAMES = re.compile(r"class \w*(Manager|Helper|Utils?|Base|Context)\b")


def functions(module: Path) -> Iterator[tuple[str, int]]:
    """Each function's name and the lines of its body without the docstring."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield node.name, body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_fits_one_sitting(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= MODULE_LINES_MAX
    assert ast.get_docstring(ast.parse(text)), "it says what it is for"
    long = {name: lines for name, lines in functions(module) if lines > FUNCTION_LINES_MAX}
    assert not long, f"longer than {FUNCTION_LINES_MAX} lines: {long}"
    assert not BANNED_NAMES.search(text)


def test_half_of_the_functions_have_five_lines_and_nine_of_ten_fit_in_a_look() -> None:
    lengths = sorted(lines for module in MODULES for _, lines in functions(module))
    assert lengths[len(lengths) // 2] <= 5
    assert lengths[len(lengths) * 9 // 10] <= 16


def test_a_class_name_means_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(module.relative_to(ROOT)))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


HOST_CALLS = {
    "Consumer", "Producer", "AdminClient", "RocksDBStore", "Rdict", "Thread", "Event", "Lock", "RLock", "Condition",
    "SimpleQueue", "_exit", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "flock", "mkdir", "rmtree",
    "rename", "unlink", "fsync", "TemporaryDirectory", "open",
}  # fmt: skip
"""What a gate asks of its host: a call of these names on anything but the host makes a part that can't be staged."""
THE_HOST = {"streams/host.py", "streams/state/rocksdb.py"}
GATE = [path for room in ("streams", "verify") for path in (ROOT / "placet" / room).rglob("*.py")]


@pytest.mark.parametrize("module", GATE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_gate_makes_no_client_thread_or_folder_but_through_its_host(module: Path) -> None:
    """What imports alone do not show. See the import contract on clocks, threads and folders."""
    found = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call):
            target = node.func
            owner = ast.unparse(target.value) if isinstance(target, ast.Attribute) else ""
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            if name in HOST_CALLS and owner not in ("self._disk", "host", "disk", "task", "self._task"):
                found.append(f"{node.lineno}: {ast.unparse(target)}")
    assert str(module.relative_to(ROOT / "placet")) in THE_HOST or found == []


@pytest.mark.parametrize("module", hot_modules())
def test_a_hot_module_has_no_class_that_its_compiler_would_change_in_silence(module: str) -> None:
    """mypyc drops a class's keywords: a Struct would lose `frozen` and `array_like`, and its bytes would change."""
    tree = ast.parse((ROOT / f"{module}.py").read_text())
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [one.name for one in classes if one.keywords] == []
    bases = {ast.unparse(base).rpartition(".")[2] for one in classes for base in one.bases}
    assert not bases & {"Struct", "BaseModel", "BaseSettings"}


def test_the_run_loop_reads_in_one_look() -> None:
    lengths = dict(functions(ROOT / "placet" / "streams" / "loop" / "worker.py"))
    assert lengths["run"] <= RUN_LOOP_LINES_MAX
    assert lengths["run_once"] <= RUN_LOOP_LINES_MAX


@pytest.mark.parametrize("file", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_to_do_in_a_comment(file: Path) -> None:
    marks = [mark for mark in MARKS if file.is_file() and f"{mark}:" in file.read_text()]
    assert not marks


def test_every_reason_is_documented() -> None:
    page = (ROOT / "docs" / "reasons.md").read_text()
    for reason, text in REASONS.items():
        assert f"| `{reason.name}` | {reason.value} | {text.retry.name} | {text.meaning} | {text.todo} |" in page
    assert set(REASONS) == set(Reason)


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for name in Settings.model_fields:
        assert f"`{PREFIX}{name.upper()}" in page, name


def test_every_metric_is_documented() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.kind} |" in page


def test_reasons_keep_their_numbers() -> None:
    assert {reason.name: reason.value for reason in Reason} == {
        "NONE": 0, "UNDECODABLE": 101, "UNKNOWN_SCHEMA": 102, "WRONG_PARTITION": 103, "KEY_MISMATCH": 104,
        "INVALID_PAYLOAD": 105, "REPEATED": 201, "DEDUP_KEY_REUSED": 202, "TOO_LATE": 301, "CLOCK_AHEAD": 302,
        "EXPIRED": 401, "STATE_TOO_OLD": 402, "NOT_AUTHORIZED": 501, "RATE_LIMITED": 601, "SHED": 602,
        "ILLEGAL_TRANSITION": 701, "IGNORED": 702, "STALE": 801, "VERSION_AHEAD": 802, "SUPERSEDED": 901,
        "GUARD_FAILED": 1001, "GUARD_ERROR": 1002, "INVARIANT_VIOLATED": 1003, "STATE_TOO_LARGE": 1004,
        "NEEDS_APPROVAL": 1101,
    }  # fmt: skip
