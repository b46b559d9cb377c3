"""What the board is told: BOARD_<NAME> in the environment, or a file in BOARD_SECRETS_DIR (see
millrace/process/settings.py)."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, create_model
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from board.declared import services
from millrace.process.database_url import DatabaseUrl
from millrace.process.http_settings import Port
from millrace.process.settings import BootstrapServers

Hosts = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(lambda names: names.replace(" ", "").split(",") if isinstance(names, str) else names),
    Field(min_length=1, description="names under which it may be asked, separated by commas"),
]
# May be left out: BaseSettings looks at defaults too.
OperatorUrl = Annotated[DatabaseUrl, Field(validate_default=False)]
_LOGIN = "the {} service's Postgres, by the board's read-only login"
_OPERATOR = "the {} service's Postgres, by the login that can ask for something, and nothing else"


class BoardSettings(BaseSettings):
    """The board looks at every store and at Kafka from outside, with logins that can only read."""

    model_config = SettingsConfigDict(
        env_prefix="BOARD_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    operator_token: Annotated[SecretStr, Field(min_length=32)] | None = Field(
        None, description="what operators show before they act; without it nobody can act on the board"
    )
    kafka_bootstrap_servers: BootstrapServers = "127.0.0.1:9092"
    http_host: str = "127.0.0.1"
    http_port: Port = 8080
    directory: Path = Field(default=Path("."), description="where the board keeps its history")
    interval: float = Field(default=1.0, gt=0, le=60, description="seconds from one look to the next")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)] = "info"
    log_format: Annotated[Literal["json", "console"], BeforeValidator(str.lower)] = "json"

    hosts: Hosts = ("localhost", "127.0.0.1")

    @property
    def databases(self) -> dict[str, str]:
        """Where to log in, by service."""
        return self._urls("database_url")

    @property
    def operator_databases(self) -> dict[str, str]:
        """Where to ask for something, by service; those that were given."""
        return {service: url for service, url in self._urls("operator_database_url").items() if url}

    def _urls(self, kind: str) -> dict[str, str]:
        return {one.name: getattr(self, f"{one.name}_{kind}") for one in services()}


def board_settings() -> type[BoardSettings]:
    """The settings with the two logins of each service: BOARD_ORDER_DATABASE_URL,
    BOARD_ORDER_OPERATOR_DATABASE_URL.

    Raises ManifestError.
    """
    logins: dict[str, Any] = {
        f"{one.name}_database_url": (DatabaseUrl, Field(description=_LOGIN.format(one.name)))
        for one in services()
    }
    operators: dict[str, Any] = {
        f"{one.name}_operator_database_url": (OperatorUrl, Field("", description=_OPERATOR.format(one.name)))
        for one in services()
    }
    return create_model("BoardSettings", __base__=BoardSettings, **logins, **operators)
