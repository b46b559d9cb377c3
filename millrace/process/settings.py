"""Settings from the environment: one prefix a service, checked before anything starts.

A setting can also be a file, so that a password need not stand in the environment: named as the variable in
lower case, in /run/secrets or where {PREFIX}SECRETS_DIR says. That is where Docker and Kubernetes mount
secrets. The environment wins.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SettingsSourceError

from millrace.domain.errors import MillraceError
from millrace.kafka.record import FORMAT_2, RecordFormat
from millrace.process.database_url import DatabaseUrl
from millrace.process.http_settings import HttpSettings, Port, split
from millrace.runtime.worker import Role
from millrace.tls.files import CA, CERTIFICATE, KEY, TlsError, TlsFiles

T = TypeVar("T", bound=BaseSettings)

SECRETS_DIR = "/run/secrets"


class SettingsError(MillraceError):
    """Settings are missing or malformed: one line a variable."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def _bootstrap_servers(value: str) -> str:
    for server in value.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError("expected host:port[,host:port...]")
    return value


def _grpc_target(value: str) -> str:
    if not value.rpartition(":")[2].isdecimal() or value.startswith(":"):
        raise ValueError("expected host:port")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


_REVERSED_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+").fullmatch


def _event_type_prefix(value: str) -> str:
    if not _REVERSED_DOMAIN(value):
        raise ValueError("expected a reversed domain name such as dev.millrace")
    return value


def _schema_base_uri(value: str) -> str:
    parts = urlsplit(value)
    plain = value.isascii() and value.isprintable() and not {" ", "?", "#"} & set(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname or not plain:
        raise ValueError("expected https://host/path, without a query or fragment")
    return value.rstrip("/")


BootstrapServers = Annotated[str, AfterValidator(_bootstrap_servers)]
GrpcTarget = Annotated[str, AfterValidator(_grpc_target)]
Roles = Annotated[frozenset[Role], NoDecode, BeforeValidator(split), Field(min_length=1)]


class ServiceSettings(HttpSettings):
    """What every service is told. A service subclasses it with its prefix, its ports and its own settings:

    class OrderSettings(ServiceSettings):
        model_config = SettingsConfigDict(env_prefix="ORDER_")
        http_port: Port = 8001
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: DatabaseUrl = Field(description="the service's own Postgres, by its service login")
    kafka_bootstrap_servers: BootstrapServers = "127.0.0.1:9092"
    grpc_host: str = "127.0.0.1"
    grpc_port: Port = 9000
    tls_ca: Path | None = Field(None, description="the CA that issued all services' certificates, a PEM file")
    tls_certificate: Path | None = Field(None, description="the certificate of this service, a PEM file")
    tls_key: Path | None = Field(None, description="the key to it, a PEM file that nobody else can read")
    roles: Roles = frozenset(Role)
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = "json"
    canary_interval: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds between two canaries (docs/board.md); 0: none are sent."""
    record_format: Annotated[int, Field(ge=1, le=2)] = 2
    """What the relay writes (docs/relay.md); 1 only until every consumer can read 2."""
    event_type_prefix: Annotated[str, AfterValidator(_event_type_prefix)] = FORMAT_2.type_prefix
    """What stands in front of the type in `ce_type`: a reversed domain name."""
    schema_base_uri: Annotated[str, AfterValidator(_schema_base_uri)] = FORMAT_2.schema_base
    """What `ce_dataschema` has in front of the `$id` of a published schema: an absolute URI."""

    def tls(self, service: str) -> TlsFiles:
        """Who the process of `service` is to others. Raises SettingsError, which names what is missing:
        whatever serves needs all three, the commands need none."""
        ca, certificate, key = self.tls_ca, self.tls_certificate, self.tls_key
        if ca is None or certificate is None or key is None:
            prefix = self.model_config.get("env_prefix", "")
            missing = [name for name in (CA, CERTIFICATE, KEY) if getattr(self, name) is None]
            raise SettingsError([_missing(type(self), prefix, name) for name in missing])
        return TlsFiles(ca, certificate, key, service)

    @property
    def relay_format(self) -> RecordFormat:
        """The format of the records that the relay writes."""
        return RecordFormat(self.record_format, self.event_type_prefix, self.schema_base_uri)


class MigrationSettings(BaseSettings):
    """What `migrate` is told. Apart from ServiceSettings: a running service never holds the migrator's
    login."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    migration_database_url: DatabaseUrl = Field(
        description="the service's own Postgres, by its migrator login"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = "json"


class RestoreSettings(ServiceSettings):
    """What `restore` and `store` are told, which an operator runs: the service's settings, and the migrator's
    login."""

    migration_database_url: DatabaseUrl = Field(
        description="the service's own Postgres, by its migrator login"
    )


def with_prefix(settings: type[T], prefix: str) -> type[T]:
    """The same settings, read from variables with that prefix."""
    config = SettingsConfigDict(env_prefix=prefix)
    return type(settings.__name__, (settings,), {"model_config": config, "__module__": settings.__module__})


def load(settings: type[T], *, prefix: str | None = None, **overrides: Any) -> T:
    """Read `settings` from the environment and from secret files; `overrides` win (the command line's
    options).

    Raises SettingsError with one line a variable, naming the variable and what it should be. Values are not
    repeated: they may be secrets.
    """
    prefix = settings.model_config.get("env_prefix", "") if prefix is None else prefix
    given = {name: value for name, value in overrides.items() if value is not None}
    secrets = Path(os.environ.get(f"{prefix}SECRETS_DIR") or SECRETS_DIR)
    try:
        return settings(_env_prefix=prefix, _secrets_dir=secrets if secrets.is_dir() else None, **given)
    except ValidationError as error:
        raise SettingsError([_line(settings, prefix, dict(item)) for item in error.errors()]) from None
    except SettingsSourceError as error:  # a file that can't be read, in so many words
        raise SettingsError([f"{prefix}SECRETS_DIR ({secrets}): {error.__cause__ or error}"]) from None


def require_tls(settings: ServiceSettings, service: str) -> None:
    """Raises SettingsError when `service` can't show other services who it is: what is missing, can't be
    used, or is somebody else's."""
    prefix = settings.model_config.get("env_prefix", "")
    try:
        settings.tls(service).read()
    except TlsError as error:
        raise SettingsError([f"{prefix}{error.setting}".upper() + f": {error}"]) from None


def _line(settings: type[BaseSettings], prefix: str, error: Mapping[str, Any]) -> str:
    field = str(error["loc"][0]) if error["loc"] else ""
    variable = f"{prefix}{field}".upper()
    if error["type"] == "missing":
        return _missing(settings, prefix, field)
    return f"{variable} is malformed: {error['msg'].removeprefix('Value error, ')}"


def _missing(settings: type[BaseSettings], prefix: str, field: str) -> str:
    meaning = settings.model_fields[field].description
    return f"{prefix}{field}".upper() + " is not set" + (f": {meaning}" if meaning else "")
