"""What the one-shot commands of a service (replay, audit) share: settings, and errors as one line with an
exit code."""

import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import psycopg
import typer
from aiokafka.errors import KafkaError
from psycopg_pool import PoolTimeout

from millrace.operations.definition import ServiceDefinition
from millrace.process.settings import ServiceSettings, SettingsError, load
from millrace.runtime.errors import ToolError, first_line
from millrace.runtime.garbage import spare_batches
from millrace.runtime.interruptible import run_interruptible
from millrace.runtime.terminal import echo
from millrace.telemetry.logging import configure_logging

T = TypeVar("T")

FAILED = 1  # the exit code of a command that found something wrong, or could not do what was asked
MISCONFIGURED = 2  # settings that are missing or malformed, or a wrong command line
INTERRUPTED = 130


class Tools:
    """Gives the commands of one service their settings, runs them, and shows their errors."""

    def __init__(self, definition: ServiceDefinition, settings: type[ServiceSettings]) -> None:
        self.definition = definition
        self._settings = settings

    def run(self, work: Callable[[ServiceSettings], Coroutine[Any, Any, T]], *, failed: int = FAILED) -> T:
        """Run `work` with the settings of the environment and return what it returns.

        Ends the process with one line on stderr when settings are missing (2), for a ToolError, and when
        Postgres or Kafka does not do its part (`failed`), and when interrupted (130).
        """
        settings = self._load()
        configure_logging(self.definition.name, level="error", form="console")
        spare_batches()
        logging.getLogger("aiokafka").setLevel(
            logging.CRITICAL
        )  # what matters of it is said below, in one line
        try:
            return run_interruptible(work(settings))
        except ToolError as error:
            self.fail(str(error), failed)
        except PoolTimeout:
            self.fail(f"no database answers for {self.definition.name}: is its Postgres running?", failed)
        except psycopg.errors.DiskFull as error:
            self.fail(f"Postgres: {first_line(error)}: make room, then run the command again", failed)
        except psycopg.Error as error:
            # Without a code it is the client that speaks: it did not get in.
            remedy = "" if error.sqlstate else ". Is it running? A new one needs its roles, and `migrate`"
            self.fail(f"Postgres: {first_line(error)}{remedy}", failed)
        except (KafkaError, OSError) as error:
            self.fail(f"Kafka at {settings.kafka_bootstrap_servers}: {first_line(error)}", failed)
        except KeyboardInterrupt:
            self.fail("interrupted", INTERRUPTED)

    def fail(self, message: str, code: int = FAILED) -> NoReturn:
        """End the process with one line on stderr."""
        echo(f"{self.definition.name}: {message}", err=True)
        sys.exit(code)

    def _load(self) -> ServiceSettings:
        try:
            return load(self._settings)
        except SettingsError as error:
            raise misconfigured(error) from None


def misconfigured(error: SettingsError) -> typer.Exit:
    """Say which settings are wrong; returns what ends the command."""
    for line in error.lines:
        echo(line, err=True)
    return typer.Exit(MISCONFIGURED)
