"""Versions of `python:` functions: one image has the code of several, so that rules change under running gates."""

from __future__ import annotations

import hashlib
import linecache
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from placet import DefinitionError, Reason, Scope
from placet.cli.definitions import app
from placet.definitions import parse_definition
from placet.processors.expressions.functions import function_digest, load_function
from placet.processors.machine import compile_machine, compile_problems
from placet.schemas.codec.control import NO_BASE
from placet.schemas.definition.diff import differences, is_compatible
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.streams.errors import TaskMigrated
from placet.streams.records import TopicPartition
from placet.streams.rules.control import refuse_unfit
from placet.streams.rules.publication import check_publication
from placet.testing import TestDriver
from tests.unit.control_records import control_record, published, rulebook_of
from tests.unit.test_rules_in_force import Following
from tests.unit.verify_history import DEFINITION, history_of

PLAIN = "def hot(scope):\n    return scope.payload['value'] > 100\n"
V1 = "def hot_v1(scope):\n    return scope.payload['value'] > 100\n"
V2 = "def hot_v2(scope):\n    return scope.payload['value'] > 1_000\n"

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module of functions, as a new image has it; gives its name."""
    name = f"shop_rules_{abs(hash(str(tmp_path)))}"
    monkeypatch.syspath_prepend(tmp_path)

    def written(*code: str) -> str:
        (tmp_path / f"{name}.py").write_text("\n\n".join(code))
        sys.modules.pop(name, None)
        linecache.clearcache()
        return name

    return written


def rules(function: str, version: int = 1) -> Definition:
    """Orders, whose temperature is guarded by a function."""
    text = (
        DEFINITION.read_text().replace("payload.value > 100", function).replace("version: 1\n", f"version: {version}\n")
    )
    return parse_definition(text, "order.yaml")


def error_of(function: str) -> DefinitionError:
    with pytest.raises(DefinitionError) as caught:
        rules(function)
    return caught.value


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_version_is_a_function_of_its_own_and_each_digest_covers_its_own_text(write: Write) -> None:
    module = write(PLAIN, V1, V2)
    for reference, text in (
        (f"python:{module}:hot", PLAIN),
        (f"python:{module}:hot@1", V1),
        (f"python:{module}:hot@2", V2),
    ):
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        assert dict(rules(reference).sources) == {reference: digest}
        assert load_function(reference)(Scope({}, {"value": 101}, "", 0, "", 0, 0, "")) is (text != V2)


def test_a_version_that_stands_twice_is_the_one_that_runs(write: Write) -> None:
    """As Python has it: the digest covers the text of that one."""
    reference = f"python:{write(V2.replace('1_000', '0'), V2)}:hot@2"
    assert rules(reference).sources[reference] == hashlib.blake2b(V2.encode(), digest_size=16).hexdigest()
    assert load_function(reference)(Scope({}, {"value": 101}, "", 0, "", 0, 0, "")) is False


def test_code_that_comes_beside_it_changes_no_definition_without_a_version(write: Write) -> None:
    before = rules(f"python:{write(PLAIN)}:hot")
    module = write(PLAIN, V2)
    assert rules(f"python:{module}:hot").digest == before.digest
    compile_machine(parse_definition(before.document))


@pytest.mark.parametrize("version", ["", "0", "02", "-1", "x", "1.0", "1@2", " 2", "9999999999"])
def test_a_version_is_a_whole_number_from_1(write: Write, version: str) -> None:
    error = error_of(f"'python:{write(V2)}:hot@{version}'")
    assert "names no function" in error.message
    assert "function@2" in error.fix


def test_a_version_that_is_missing_is_named_beside_those_that_are_there(write: Write) -> None:
    module = write(PLAIN, V1, "def hot_v10(scope):\n    return True", V2, "hot_v4 = 4", "def hotter_v3(scope): ...")
    error = error_of(f"python:{module}:hot@3")
    assert error.message == f"the module {module} has no version 3 of hot: it has hot, hot@1, hot@2, hot@10"
    assert "Define `def hot_v3(scope)` there, install the code that has it, or name one that is there" in error.fix
    assert (error.file, error.path) == ("order.yaml", "signals.temperature.guard")


def test_versions_alone_are_named_where_none_is_asked_for(write: Write) -> None:
    module = write(V1, V2)
    assert error_of(f"python:{module}:hot").message == f"the module {module} has no function hot: it has hot@1, hot@2"


def test_a_function_behind_a_space_is_not_published_without_its_code(write: Write) -> None:
    """It would run, and its digest would not be part of the rules."""
    spaced = rules(f"' python:{write(PLAIN)}:hot'")
    assert not spaced.sources
    assert [problem.message for problem in compile_problems(spaced)] == ["a space stands before `python:`"]
    with pytest.raises(SettingsError, match="a space stands before"):
        check_publication([spaced], rulebook_of([]), lambda *_: {}, force=False)
    compile_machine(spaced)


# --- changed code ----------------------------------------------------------------------------------------------------


def test_changed_code_names_function_digests_and_what_to_do(write: Write) -> None:
    reference = f"python:{write(V1)}:hot@1"
    before = rules(reference)
    write(V1.replace("100", "200"))
    with pytest.raises(DefinitionError) as caught:
        compile_machine(parse_definition(before.document))
    assert f"the code of {reference} is not the one that this definition was loaded with" in caught.value.message
    assert (
        f"its digest is {function_digest(reference)} here, and {before.sources[reference]} there"
        in caught.value.message
    )
    assert f"as `def hot_v2(scope)`: a definition names it `{reference.replace('@1', '@2')}`" in caught.value.fix


@pytest.mark.parametrize(("name", "following"), [("hot", "hot@2"), ("hot@1", "hot@2")])
def test_a_gate_with_changed_code_and_the_same_definition_is_told_of_the_code(
    write: Write, name: str, following: str
) -> None:
    """The file of the definition is the same, so "other rules" alone would say nothing."""
    module = write(PLAIN, V1)
    before = rules(f"python:{module}:{name}")
    write(PLAIN.replace("100", "200"), V1.replace("100", "200"))
    after = rules(f"python:{module}:{name}")
    with pytest.raises(SettingsError, match="the same version is published with other rules") as caught:
        refuse_unfit(after, [published(before)])
    said = str(caught.value)
    assert f"the code of python:{module}:{name} changed" in said
    assert all(digest in said for digest in (*before.sources.values(), *after.sources.values()))
    assert f"`python:{module}:{following}`" in said


def test_a_version_is_not_published_with_other_code(write: Write) -> None:
    reference = f"python:{write(V1)}:hot@1"
    before = rules(reference)
    write(V1.replace("100", "200"))
    after = rules(reference, 2)
    (found,) = [each for each in differences(before, after) if each.path == reference]
    assert not found.compatible
    assert found.change == f"other code: {before.sources[reference][:8]} -> {after.sources[reference][:8]}"
    assert "def hot_v2(scope)" in found.why
    rulebook = rulebook_of([(0, published(before, base=NO_BASE))])
    with pytest.raises(SettingsError, match=re.escape(f"{reference} other code")):
        check_publication([after], rulebook, lambda *_: {}, force=False)
    (forced,) = check_publication([after], rulebook, lambda *_: {}, force=True)
    assert forced.what.count("other code") == 1
    between = rules("payload.value > 300", 2)
    rulebook = rulebook_of([(0, published(before, base=NO_BASE)), (1, published(between, base=before.digest))])
    with pytest.raises(SettingsError, match=re.escape(f"{reference} other code")):
        check_publication([rules(reference, 3)], rulebook, lambda *_: {}, force=False)


def test_code_without_a_version_may_change_with_the_definition_as_ever(write: Write) -> None:
    reference = f"python:{write(PLAIN)}:hot"
    before = rules(reference)
    write(PLAIN.replace("100", "200"))
    found = differences(before, rules(reference, 2))
    assert is_compatible(found)
    assert "such as `…@2`" in found[-1].why


def test_a_file_that_is_replaced_under_a_process_changes_nothing_of_what_runs_in_it(write: Write) -> None:
    """The new text would stand for the old code: a gate would decide by one and name the other."""
    module = write(V1, V2)
    before = function_digest(f"python:{module}:hot@1"), function_digest(f"python:{module}:hot@2")
    file = Path(str(sys.modules[module].__file__))
    file.write_text(V1.replace("100", "200") + "\n\n" + V2.replace("1_000", "2_000") + "# longer\n")
    assert (function_digest(f"python:{module}:hot@1"), function_digest(f"python:{module}:hot@2")) == before


# --- what an author sees ---------------------------------------------------------------------------------------------


def test_the_commands_show_the_versions(write: Write, tmp_path: Path) -> None:
    module, files = write(V1, V2), (tmp_path / "v1.yaml", tmp_path / "v2.yaml")
    for number, file in enumerate(files, 1):
        text = DEFINITION.read_text().replace("version: 1\n", f"version: {number}\n")
        file.write_text(text.replace("payload.value > 100", f"python:{module}:hot@{number}"))

    def shown(*arguments: str | Path) -> str:
        found = CliRunner().invoke(app, list(map(str, arguments)))
        assert found.exit_code == 0, found.output
        return " ".join(found.stdout.split())

    assert f"python:{module}:hot@1 -> python:{module}:hot@2" in shown("diff", *files, "-o", "json")
    assert f"python:{module}:hot@2" in shown("show", files[1])
    assert "v2.yaml: ok: order version 2" in shown("validate", *files)


# --- the upgrade -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["hot", "hot@1"])
def test_a_running_gate_changes_over_to_the_next_version_of_a_function(write: Write, first: str) -> None:
    """Its image has both. Another hand publishes; nothing is restarted; what was decided under either is verified."""
    module = write(PLAIN, V1, V2)
    one, two = rules(f"python:{module}:{first}"), rules(f"python:{module}:hot@2", 2)
    driver = TestDriver(one)
    driver.signal("order-1", "opened", {"total": 5}, signal_id="opened")
    driver.signal("order-1", "temperature", {"value": 101}, signal_id="t-1", event_time=driver.now_ms)
    assert driver.read("order-1").status == "held"

    record = control_record(published(two, base=one.digest), 0)
    driver.log.append(TopicPartition("test.control", 0), driver.now_ms, record.key, record.value)
    driver._gate._run(lambda: driver.machine.version == 2)
    driver.signal("order-2", "opened", {"total": 5}, signal_id="opened-2")
    decision = driver.signal("order-2", "temperature", {"value": 101}, signal_id="t-2", event_time=driver.now_ms)
    assert decision.reason is Reason.GUARD_FAILED
    assert f"python:{module}:hot@2" in decision.detail
    assert {at.definition_digest for _, at in driver.decided} == {one.digest, two.digest}
    report = history_of(driver, [one, two]).verify()
    assert (report.differences, report.decisions) == (0, 4)


def test_rules_of_both_versions_are_taken_by_an_image_that_has_both(write: Write) -> None:
    module = write(V1, V2)
    one, two = rules(f"python:{module}:hot@1"), rules(f"python:{module}:hot@2", 2)
    gate = Following(one)
    gate.publish(published(two, base=one.digest))
    assert gate.rules.follow() is True
    gate.publish(published(rules(f"python:{module}:hot@1", 3), base=two.digest))  # a withdrawal
    assert gate.rules.follow() is True
    assert gate.decided_by() == {"order": 3}
    assert gate.events() == []


def test_an_image_that_lacks_the_version_says_which_it_has(write: Write) -> None:
    module = write(V1, V2)
    one, two = rules(f"python:{module}:hot@1"), rules(f"python:{module}:hot@2", 2)
    write(V1)
    gate = Following(one)
    gate.publish(published(two, base=one.digest))
    with pytest.raises(TaskMigrated):
        gate.rules.follow()
    why, outside = gate.why_not()
    assert outside
    assert re.search(r"version 2 is in force.*no version 2 of hot: it has hot@1", why["order"])


def test_decisions_under_code_that_was_taken_out_are_named_by_verify(write: Write) -> None:
    module = write(V1, V2)
    one, two = rules(f"python:{module}:hot@1"), rules(f"python:{module}:hot@2", 2)
    driver = TestDriver(one)
    driver.signal("order-1", "temperature", {"value": 101}, signal_id="t-1")
    driver.restart(two)
    history = history_of(driver, [one, two])
    write(V2)
    with pytest.raises(
        SettingsError, match=r"order version 1 can't be run again here.*no version 1 of hot: it has hot@2"
    ):
        history.verify()
