"""Settings: what wins over what, secrets from files, options that the gate owns, errors that name the variable."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from placet.processors.dedup import CLOCK_AHEAD_MAX_MS
from placet.schemas.errors import SettingsError
from placet.streams.librdkafka_options import OWNED_OPTIONS, WITHOUT_A_BROKER
from placet.streams.settings import Settings, _name_of_this_process, load_settings, misspelt, unknown_variables
from placet.streams.topics.configs import RECORD_BYTES_MAX

SetEnvironment = Callable[..., None]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> SetEnvironment:
    """An environment without settings, and a way to set some."""
    for name in os.environ:
        if name.startswith(("PLACET_", "KAFKA_", "SCHEMA_REGISTRY_")):
            monkeypatch.delenv(name)

    def set_environment(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_environment


def refused(**overrides: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides)
    return str(caught.value)


# -- what wins ------------------------------------------------------------------------------------------------------


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings()
    assert (settings.app, settings.kafka.bootstrap_servers, settings.registry.url) == (
        "placet",
        "localhost:9092",
        None,
    )
    assert settings.state_dir.is_absolute()
    assert settings.definitions == ()
    assert settings.metrics_port == 0


def test_no_two_processes_on_a_host_have_one_name_by_default() -> None:
    program = "from placet.streams.settings import load_settings as load; print(load().instance, load().instance)"
    environment = {name: value for name, value in os.environ.items() if name != "PLACET_INSTANCE"}
    names = [
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    (one, again), (other, _) = (done.stdout.split() for done in names)
    assert one == again, "one process has one name"
    assert one != other
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{6}", one)


@pytest.mark.parametrize("host", ["-odd-", "żółw.example", "h" * 300, ""])
def test_a_default_name_fits_whatever_the_host_is_called(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    _name_of_this_process.cache_clear()
    name = load_settings().instance
    _name_of_this_process.cache_clear()
    assert load_settings({"instance": name}).instance == name


def test_static_membership_needs_a_name(environment: SetEnvironment) -> None:
    sentence = (
        "PLACET_STATIC needs PLACET_INSTANCE: a static member is known by a name that is the same after a restart"
    )
    assert refused(static=True).startswith(sentence)
    environment(PLACET_STATIC="true")
    assert refused().startswith(sentence)
    environment(PLACET_INSTANCE="pod-0")
    assert load_settings().static


def test_the_environment_wins_over_defaults_and_the_command_line_over_both(environment: SetEnvironment) -> None:
    environment(PLACET_APP="from-environment", PLACET_BATCH_RECORDS_MAX="7", PLACET_KAFKA__BOOTSTRAP_SERVERS="e:1")
    settings = load_settings({"app": "from-line"})
    assert (settings.app, settings.batch_records_max, settings.kafka.bootstrap_servers) == ("from-line", 7, "e:1")
    assert load_settings({"kafka": {"bootstrap_servers": "l:1"}}).kafka.bootstrap_servers == "l:1"


def test_what_the_command_line_gives_of_a_level_leaves_the_rest_to_the_environment(environment: SetEnvironment) -> None:
    environment(PLACET_KAFKA__OPTIONS='{"client.rack": "a"}')
    assert load_settings({"kafka": {"bootstrap_servers": "l:1"}}).librdkafka() == {
        **WITHOUT_A_BROKER,
        "bootstrap.servers": "l:1",
        "client.rack": "a",
    }


def test_the_usual_names_are_heard_but_our_own_win(environment: SetEnvironment) -> None:
    environment(KAFKA_BOOTSTRAP_SERVERS="usual:9092", SCHEMA_REGISTRY_URL="http://usual")
    assert load_settings().kafka.bootstrap_servers == "usual:9092"
    assert load_settings().registry.url == "http://usual"
    environment(PLACET_KAFKA__BOOTSTRAP_SERVERS="own:9092", PLACET_REGISTRY__URL="http://own")
    assert load_settings().kafka.bootstrap_servers == "own:9092"
    assert load_settings().registry.url == "http://own"


def test_ids_that_count_as_unknown_stand_with_commas_between_them(environment: SetEnvironment) -> None:
    assert load_settings().registry.unknown_ids == ()
    environment(PLACET_REGISTRY__UNKNOWN_IDS="17, 18", PLACET_REGISTRY__URL="http://registry")
    assert load_settings().registry.unknown_ids == (17, 18)
    environment(PLACET_REGISTRY__UNKNOWN_IDS="17")
    assert load_settings().registry.unknown_ids == (17,)
    environment(PLACET_REGISTRY__UNKNOWN_IDS="order")
    assert "PLACET_REGISTRY__UNKNOWN_IDS" in refused()


@pytest.mark.parametrize(
    ("variable", "value", "paths"),
    [
        ("PLACET_DEFINITION", "a.yaml", ["a.yaml"]),
        ("PLACET_DEFINITIONS", "a.yaml", ["a.yaml"]),
        ("PLACET_DEFINITIONS", "a.yaml, b.yaml", ["a.yaml", "b.yaml"]),
    ],
)
def test_definitions_are_named_one_or_many(
    environment: SetEnvironment, variable: str, value: str, paths: list[str]
) -> None:
    environment(**{variable: value})
    assert load_settings().definitions == tuple(map(Path, paths))
    assert load_settings({"definitions": [Path("c.yaml")]}).definitions == (Path("c.yaml"),)


def test_definitions_can_not_be_named_twice(environment: SetEnvironment) -> None:
    environment(PLACET_DEFINITION="a.yaml", PLACET_DEFINITIONS="b.yaml")
    assert "PLACET_DEFINITION and PLACET_DEFINITIONS are both set" in refused()


def test_a_tilde_is_the_users_home(environment: SetEnvironment) -> None:
    environment(HOME="/home/someone", PLACET_STATE_DIR="~/state")
    assert load_settings().state_dir == Path("/home/someone/state")


# -- secrets and librdkafka's options --------------------------------------------------------------------------------


def test_a_secret_is_read_from_a_file_and_never_shown(environment: SetEnvironment, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    environment(
        PLACET_KAFKA__OPTIONS='{"security.protocol": "SASL_SSL", "socket.timeout.ms": 3000, "enable.ssl": true}',
        PLACET_KAFKA__OPTIONS__SASL_PASSWORD_FILE=str(secret),
    )
    settings = load_settings()
    assert settings.librdkafka() == {
        **WITHOUT_A_BROKER,
        "bootstrap.servers": "localhost:9092",
        "security.protocol": "SASL_SSL",
        "socket.timeout.ms": "3000",
        "enable.ssl": "true",
        "sasl.password": "hush",
    }
    assert "hush" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_any_setting_can_come_from_a_file(environment: SetEnvironment, tmp_path: Path) -> None:
    (tmp_path / "app").write_text("filed")
    environment(PLACET_APP_FILE=str(tmp_path / "app"))
    assert load_settings().app == "filed"


def test_a_variable_and_its_file_are_not_both_set(environment: SetEnvironment, tmp_path: Path) -> None:
    environment(PLACET_APP="a", PLACET_APP_FILE=str(tmp_path / "app"))
    assert "PLACET_APP and PLACET_APP_FILE are both set" in refused()


def test_a_file_that_is_not_there_is_named(environment: SetEnvironment) -> None:
    environment(PLACET_REGISTRY__OPTIONS__BASIC_AUTH_USER_INFO_FILE="/nowhere/secret")
    assert "PLACET_REGISTRY__OPTIONS__BASIC_AUTH_USER_INFO_FILE names /nowhere/secret" in refused()


def test_options_of_consumers_and_producers_come_on_top(environment: SetEnvironment) -> None:
    environment(
        PLACET_KAFKA__OPTIONS__CLIENT_RACK="a",
        PLACET_KAFKA__CONSUMER_OPTIONS__FETCH_MAX_BYTES="1",
        PLACET_KAFKA__PRODUCER_OPTIONS__CLIENT_RACK="b",
    )
    settings = load_settings()
    common = {**WITHOUT_A_BROKER, "bootstrap.servers": "localhost:9092", "client.rack": "a"}
    assert settings.librdkafka() == common
    assert settings.consumer_options() == {**common, "fetch.max.bytes": "1"}
    assert settings.producer_options() == {**common, "client.rack": "b"}


@pytest.mark.parametrize("level", ["options", "consumer_options", "producer_options"])
@pytest.mark.parametrize("option", sorted(OWNED_OPTIONS))
def test_what_the_gate_sets_itself_is_refused_with_its_reason(level: str, option: str) -> None:
    said = refused(kafka={level: {option: "x"}})
    assert f"`{option}` is not for you to set: {OWNED_OPTIONS[option]}" in said
    assert said.startswith(f"PLACET_KAFKA__{level.upper()}: ")


def test_an_owned_option_does_not_slip_in_by_another_spelling(environment: SetEnvironment) -> None:
    environment(PLACET_KAFKA__CONSUMER_OPTIONS__ISOLATION_LEVEL="read_uncommitted")
    assert "`isolation.level` is not for you to set" in refused()


# -- errors ---------------------------------------------------------------------------------------------------------


def test_every_mistake_is_named_by_its_variable_without_its_value(environment: SetEnvironment) -> None:
    environment(
        PLACET_BATCH_RECORDS_MAX="none-of-your-business",
        PLACET_LOG_LEVEL="none-of-your-business",
        PLACET_KAFKA__SASL_PASSWORD="none-of-your-business",
    )
    said = refused()
    assert "PLACET_BATCH_RECORDS_MAX: " in said
    assert "PLACET_LOG_LEVEL: " in said
    assert "PLACET_KAFKA__SASL_PASSWORD: there is no such setting" in said
    assert "none-of-your-business" not in said


def test_a_value_that_is_no_json_is_told_how_to_write_it(environment: SetEnvironment) -> None:
    environment(PLACET_KAFKA__OPTIONS="security.protocol=SSL")
    assert refused() == 'PLACET_KAFKA…: a value is no JSON. Write it like {"security.protocol": "SSL"}'


@pytest.mark.parametrize("name", ["", "with space", "ümlaut", "-dash", "a/b", "x" * 101])
def test_names_that_no_topic_could_have_are_refused(name: str) -> None:
    assert "PLACET_APP: " in refused(app=name)


def test_a_registry_has_a_web_address(environment: SetEnvironment) -> None:
    assert "PLACET_REGISTRY__URL: " in refused(registry={"url": "nonsense"})
    environment(SCHEMA_REGISTRY_URL="file:///etc/passwd")
    assert "PLACET_REGISTRY__URL: " in refused()


def test_a_password_in_an_address_is_refused_as_it_would_be_shown(environment: SetEnvironment) -> None:
    environment(PLACET_REGISTRY__URL="https://user:hush@registry")
    said = refused()
    assert "PLACET_REGISTRY__OPTIONS__BASIC_AUTH_USER_INFO" in said
    assert "hush" not in said


@pytest.mark.parametrize(("session_timeout_ms", "fits"), [(6_000, True), (5_999, False), (45_000, True)])
def test_a_transaction_ends_two_seconds_before_the_session(session_timeout_ms: int, fits: bool) -> None:
    settings = load_settings({"transaction_timeout_ms": 4_000})
    if fits:
        settings.check_session_timeout(session_timeout_ms)
        return
    with pytest.raises(SettingsError, match="set it to at most 3999"):
        settings.check_session_timeout(session_timeout_ms)


def test_no_clock_may_be_further_off_than_the_ladder_allows() -> None:
    assert load_settings({"max_clock_skew_ms": CLOCK_AHEAD_MAX_MS}).max_clock_skew_ms == CLOCK_AHEAD_MAX_MS
    assert "PLACET_MAX_CLOCK_SKEW_MS: " in refused(max_clock_skew_ms=CLOCK_AHEAD_MAX_MS + 1)


def test_the_largest_record_is_the_one_that_topics_are_made_for() -> None:
    assert load_settings().record_bytes_max == RECORD_BYTES_MAX


def test_settings_never_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().app = "other"  # type: ignore[misc]


# -- for those who read them ----------------------------------------------------------------------------------------


def test_every_setting_but_the_groups_says_what_it_is() -> None:
    silent = [name for name, field in Settings.model_fields.items() if not field.description]
    assert silent == ["kafka", "registry"]


def test_every_number_has_its_unit_in_its_name() -> None:
    numbers = [name for name, field in Settings.model_fields.items() if field.annotation is int]
    without = [name for name in numbers if not name.endswith(("_ms", "_max"))]
    assert without == ["metrics_port"]


def test_a_misspelt_variable_is_found_with_what_was_meant() -> None:
    variables = {
        "PLACET_BATCH_RECORD_MAX": "1",
        "PLACET_SERVICE_HOST": "of Kubernetes",
        "PLACET_APP": "a",
        "PLACET_APP_FILE": "/a",
        "PLACET_DEFINITION": "a.yaml",
        "PLACET_KAFKA__OPTIONS__CLIENT_RACK": "a",
        "PLACET_BROKER_DATA_DIR": "/a",
        "PLACET_MAVEN_REPOSITORY": "https://a",
        "PLACET_TOP_ENDPOINT": "a:1",
        "PLACET_KAFKA_BOOTSTRAP_SERVERS": "a:1",
        "PLACET_PORT_9092_TCP_ADDR": "of Kubernetes",
        "PATH": "/bin",
    }
    assert unknown_variables(variables) == {
        "PLACET_BATCH_RECORD_MAX": "PLACET_BATCH_RECORDS_MAX",
        "PLACET_SERVICE_HOST": "",
        "PLACET_TOP_ENDPOINT": "PLACET_TOP_ENDPOINTS",
        "PLACET_KAFKA_BOOTSTRAP_SERVERS": "PLACET_KAFKA__BOOTSTRAP_SERVERS",
        "PLACET_PORT_9092_TCP_ADDR": "",
    }
    assert misspelt(variables)[:1] == [
        "PLACET_BATCH_RECORD_MAX is no setting, and is ignored: is PLACET_BATCH_RECORDS_MAX meant?"
    ]
    assert len(misspelt(variables)) == 3, "what only looks like one of ours is none of our business"
