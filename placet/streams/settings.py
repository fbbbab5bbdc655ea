"""Settings of a gate: command line over environment over defaults, read once at start and never changed.

Every field can be set by the environment: `PLACET_` and its name in capitals, `__` between levels, as in
`PLACET_KAFKA__BOOTSTRAP_SERVERS`. With `_FILE` behind the name, the value is read from that file, the way in which
Docker and Kubernetes hand over secrets: `PLACET_KAFKA__OPTIONS__SASL_PASSWORD_FILE=/run/secrets/kafka`. Options of
librdkafka are passed on as they are; in a variable's name `_` stands for their dots.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, Literal, Self, TypeAlias

import pydantic_settings
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from placet.schemas.errors import SettingsError
from placet.streams.librdkafka_options import OWNED_OPTIONS, WITHOUT_A_BROKER

__all__ = [
    "PREFIX",
    "SESSION_MARGIN_MS",
    "KafkaSettings",
    "RegistrySettings",
    "Settings",
    "load_settings",
    "misspelt",
    "unknown_variables",
]

PREFIX = "PLACET_"
SESSION_MARGIN_MS = 2_000
"""How much earlier a transaction must time out than the member's session: its successor must not wait for it."""

_USUAL = {
    "kafka_bootstrap_servers": "placet_kafka__bootstrap_servers",
    "schema_registry_url": "placet_registry__url",
}
"""Variables that other tools read too, heard where our own is not set."""

_OF_COMMANDS = ("BROKER_DATA_DIR", "MAVEN_REPOSITORY", "TOP_ENDPOINTS")
"""Variables of commands that run no gate."""

Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


def _options(written: object) -> object:
    """Turn `sasl_password` of a variable's name into `sasl.password`, and JSON's numbers into text."""
    if not isinstance(written, Mapping):
        return written
    return {str(name).lower().replace("_", "."): _text(value) for name, value in written.items()}


def _text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _not_owned(options: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name in options:
        if name in OWNED_OPTIONS:
            raise ValueError(f"`{name}` is not for you to set: {OWNED_OPTIONS[name]}")
    return options


def _web_address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("write it as http://… or https://…")
    if "@" in url:
        raise ValueError("user and password go into PLACET_REGISTRY__OPTIONS__BASIC_AUTH_USER_INFO (or …_FILE)")
    return url


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path} needs a home folder, and this user has none: give the whole path") from error


def _parts(written: object) -> object:
    return [part.strip() for part in written.split(",") if part.strip()] if isinstance(written, str) else written


@cache
def _name_of_this_process() -> str:
    """Two gates on one host must not have one name: it names their transactions, and they would fence each other."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("-._") or "gate"
    return f"{host[:80]}-{token_hex(3)}"


Options: TypeAlias = Annotated[dict[str, SecretStr], BeforeValidator(_options)]
ClientOptions: TypeAlias = Annotated[Options, AfterValidator(_not_owned)]


def _revealed(options: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in options.items()}


class KafkaSettings(BaseModel, frozen=True, extra="forbid"):
    """How Kafka is reached. The values of options are never printed."""

    bootstrap_servers: str = Field(
        default="localhost:9092",
        min_length=1,
        description="host:port of one or more brokers, with commas; else KAFKA_BOOTSTRAP_SERVERS",
    )
    options: ClientOptions = Field(default={}, description="librdkafka options of all clients, as JSON or one by one")
    consumer_options: ClientOptions = Field(default={}, description="librdkafka options of the consumers only")
    producer_options: ClientOptions = Field(default={}, description="librdkafka options of the producers only")


class RegistrySettings(BaseModel, frozen=True, extra="forbid"):
    """How the schema registry is reached, where there is one."""

    url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        default=None,
        description="else SCHEMA_REGISTRY_URL; none: records carry their schema's fingerprint (Avro single-object)",
    )
    options: Options = Field(
        default={}, description="options of the registry client, such as basic.auth.user.info and ssl.ca.location"
    )
    unknown_ids: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_parts)] = Field(
        default=(), description="ids, with commas, that count as unknown unasked: inputs that name them are refused"
    )


class Settings(BaseSettings):
    """All settings of a gate. Times in milliseconds, sizes in bytes.

    Raises:
        SettingsError: a `_FILE` that can't be read. Use `load_settings` to get every mistake as a SettingsError.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid")

    app: Name = Field(default="placet", description="names the topics, the consumer group and the transactions")
    instance: Name = Field(
        default_factory=_name_of_this_process,
        description="this gate's name, no other's of this app; default: the host's name and six random characters, "
        "new at each start",
    )
    definitions: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_parts)] = Field(
        default=(), description="definition files, with commas; PLACET_DEFINITION for one"
    )
    state_dir: Annotated[Path, AfterValidator(_at_home)] = Field(
        default_factory=lambda: Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "placet" / "state",
        validate_default=True,
        description="folder of the local stores: a cache, rebuilt from the log when it is gone",
    )
    state_retention_ms: int = Field(
        default=604_800_000,
        ge=60_000,
        description="within it the state folder forgets: what was deleted leaves the stores, and stores that no task "
        "uses are removed",
    )
    static: bool = Field(
        default=False,
        description="static group membership, for a state_dir that outlives the process; needs PLACET_INSTANCE",
    )
    force: bool = Field(
        default=False,
        description="publish a definition even if it is incompatible with the one in force; for one start",
    )
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    batch_records_max: int = Field(default=4_000, ge=1, le=100_000, description="most records of one transaction")
    poll_timeout_ms: int = Field(default=200, ge=1, le=10_000, description="longest wait for a record in one poll")
    transaction_timeout_ms: int = Field(
        default=4_000, ge=1_000, le=900_000, description="the broker aborts a transaction after this time"
    )
    watchdog_ms: int = Field(
        # Not what keeps a zombie out (the group's fence does): a broker may restart in the meantime.
        default=20_000,
        ge=1_000,
        description="a call into Kafka's client that hangs for longer ends the process with exit code 70",
    )
    max_clock_skew_ms: int = Field(
        # Beyond 60 s inputs would look as if issued in the future: CLOCK_AHEAD_MAX_MS of the decision ladder.
        default=5_000,
        ge=1,
        le=60_000,
        description="the gate stops when its clock is further off the broker's",
    )
    record_bytes_max: int = Field(
        default=1_048_588, ge=1_024, le=33_554_432, description="largest input record; Kafka's own default"
    )
    metrics_host: str = Field(default="0.0.0.0", description="address of /metrics, /healthz and /readyz")  # noqa: S104 - opt-in by the port, and a probe comes from outside the pod
    metrics_port: int = Field(default=0, ge=0, le=65_535, description="port of /metrics, /healthz, /readyz; 0: none")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in the call first, then the environment with its `_FILE` variables."""
        return (init_settings, _Environment(settings_cls))

    @model_validator(mode="after")
    def _static_has_a_name(self) -> Self:
        if self.static and "instance" not in self.model_fields_set:
            raise ValueError(
                "PLACET_STATIC needs PLACET_INSTANCE: a static member is known by a name that is the same after a "
                "restart, such as the pod's"
            )
        return self

    def librdkafka(self) -> dict[str, str]:
        """Options of all Kafka clients, secrets in the clear: never log them."""
        return {
            **WITHOUT_A_BROKER,
            "bootstrap.servers": self.kafka.bootstrap_servers,
            **_revealed(self.kafka.options),
        }

    def consumer_options(self) -> dict[str, str]:
        """Options of every consumer, before those that the gate sets itself."""
        return {**self.librdkafka(), **_revealed(self.kafka.consumer_options)}

    def producer_options(self) -> dict[str, str]:
        """Options of every producer, before those that the gate sets itself."""
        return {**self.librdkafka(), **_revealed(self.kafka.producer_options)}

    def registry_options(self) -> dict[str, str]:
        """Options of the registry client without its url, secrets in the clear."""
        return _revealed(self.registry.options)

    def check_session_timeout(self, session_timeout_ms: int) -> None:
        """Refuse a transaction timeout that outlives the group session.

        Args:
            session_timeout_ms: the group's, see `Admin.session_timeout_ms`.

        Raises:
            SettingsError: a successor could start while the dead gate's transaction is still open.
        """
        longest = session_timeout_ms - SESSION_MARGIN_MS
        if self.transaction_timeout_ms > longest:
            raise SettingsError(
                f"PLACET_TRANSACTION_TIMEOUT_MS is {self.transaction_timeout_ms}, but the group session ends after "
                f"{session_timeout_ms} ms: set it to at most {longest}, or raise group.consumer.session.timeout.ms on "
                "the brokers."
            )


class _Environment(EnvSettingsSource):
    """The environment, with the contents of `PLACET_…_FILE` in place of their names."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        found = {name: value for name, value in self.env_vars.items() if value is not None}
        usual = {_USUAL[name]: value for name, value in found.items() if name in _USUAL and value}
        self.env_vars = usual | _one_definition(_with_files(found, frozenset(settings_cls.model_fields)))


def _with_files(found: dict[str, str], fields: frozenset[str]) -> dict[str, str]:
    prefix, suffix = PREFIX.lower(), "_file"
    resolved = dict(found)
    for variable, file in found.items():
        base = variable.removesuffix(suffix)
        if base == variable or not _is_setting(base, fields):
            continue
        if base in found:
            raise SettingsError(f"{base.upper()} and {variable.upper()} are both set: keep one of them.")
        try:
            resolved[base] = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{variable.upper()} names {file}, which can't be read: {error}") from error
        del resolved[variable]
    return {name: value for name, value in resolved.items() if name.startswith(prefix)}


def _one_definition(found: dict[str, str]) -> dict[str, str]:
    one, many = f"{PREFIX.lower()}definition", f"{PREFIX.lower()}definitions"
    if one not in found:
        return found
    if many in found:
        raise SettingsError("PLACET_DEFINITION and PLACET_DEFINITIONS are both set: keep one of them.")
    return {(many if name == one else name): value for name, value in found.items()}


def _is_setting(variable: str, fields: frozenset[str]) -> bool:
    return variable.lower().removeprefix(PREFIX.lower()).split("__")[0] in fields


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings: what is given here over the environment over the defaults.

    Args:
        overrides: by field, nested as dicts, such as `{"app": "a", "kafka": {"bootstrap_servers": "b:9092"}}`.

    Raises:
        SettingsError: one sentence for each setting that is wrong, named by its variable, without its value.
    """
    try:
        return Settings(**(overrides or {}))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise SettingsError("\n".join(map(_sentence, problems))) from None
    except pydantic_settings.SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
        where = f"{PREFIX}{field[1].upper()}…" if field else PREFIX
        raise SettingsError(f"{where}: a value is no JSON. Write it like " + '{"security.protocol": "SSL"}') from None


def _sentence(problem: ErrorDetails) -> str:
    unknown = problem["type"] == "extra_forbidden"
    said = "there is no such setting" if unknown else problem["msg"].removeprefix("Value error, ")
    variable = PREFIX + "__".join(str(part).upper().replace(".", "_") for part in problem["loc"])
    return f"{variable}: {said}" if problem["loc"] else said


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like settings and are none, with the nearest name that exists or "".

    They are not refused: Kubernetes itself sets `PLACET_SERVICE_HOST` and more beside a service named placet.
    """
    fields = frozenset(Settings.model_fields)
    nested: dict[str, type[BaseModel]] = {"kafka": KafkaSettings, "registry": RegistrySettings}
    known = [field.upper() for field in ("definition", *fields)] + list(_OF_COMMANDS)
    known += [f"{group}__{field}".upper() for group, model in nested.items() for field in model.model_fields]
    unknown = [name for name in environment if name.startswith(PREFIX) and not _known(name, fields)]
    near = {name: get_close_matches(name.removeprefix(PREFIX), known, 1, 0.8) for name in unknown}
    return {name: PREFIX + found[0] if found else "" for name, found in near.items()}


def misspelt(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that looks like a misspelt setting: it would be ignored in silence."""
    found = unknown_variables(environment).items()
    return [f"{name} is no setting, and is ignored: is {meant} meant?" for name, meant in found if meant]


def _known(variable: str, fields: frozenset[str]) -> bool:
    of_a_command = variable.removeprefix(PREFIX) in _OF_COMMANDS
    return of_a_command or _is_setting(variable.removesuffix("_FILE"), fields | {"definition"})
