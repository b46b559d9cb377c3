"""Where the servers for tests are: real ones, which somebody else has started."""

import os
from dataclasses import dataclass

from millrace.domain.errors import MillraceError

POSTGRES = "MILLRACE_TEST_POSTGRES"
KAFKA = "MILLRACE_TEST_KAFKA"


class NoServer(MillraceError):
    """A test needs a server and nobody said where it is; the message says how to."""


@dataclass(frozen=True)
class KafkaAddress:
    """A broker: host:port[,host:port...]."""

    bootstrap_servers: str


def postgres_superuser() -> str:
    """The URL of a superuser of a Postgres server for tests. Raises NoServer."""
    return _variable(
        POSTGRES, "postgresql://postgres:secret@127.0.0.1:5432/postgres", "a superuser of a Postgres"
    )


def kafka_address() -> KafkaAddress:
    """A broker for tests. Raises NoServer."""
    return KafkaAddress(_variable(KAFKA, "127.0.0.1:9092", "a Kafka broker"))


def _variable(name: str, example: str, what: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise NoServer(f"{name} is not set: it names {what} for tests, such as {example}")
    return value
