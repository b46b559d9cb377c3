"""Trying again what may succeed later: a database or a broker that is away for a while."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
from aiokafka.errors import KafkaError

from millrace.domain.errors import MillraceError
from millrace.postgres.database import is_transient
from millrace.runtime.backoff import Backoff
from millrace.runtime.errors import first_line

T = TypeVar("T")

PATIENCE = 60.0  # seconds without any progress


class Retry:
    """Tries again for `patience` seconds since the last progress, then raises the fault.

    Before `begun` it raises at once: a command that finds no database when it starts says so immediately.
    """

    def __init__(self, patience: float = PATIENCE, backoff: Backoff | None = None) -> None:
        self._patience = patience
        self._backoff = backoff or Backoff(initial=0.2, maximum=5.0)
        self._failing_since: float | None = None
        self._begun = False

    def begun(self) -> None:
        """Everything that is needed was there: from now on it is worth waiting for."""
        self._begun = True

    def progressed(self) -> None:
        """Something was done: the next fault is a new one."""
        self._failing_since = None
        self._backoff.reset()

    async def do(self, work: Callable[[], Awaitable[T]], on_fault: Callable[[str], None]) -> T:
        """What `work` returns. `on_fault` gets one line for each fault that is waited for."""
        while True:
            try:
                return await work()
            except Exception as error:
                if not self._begun or not may_pass(error) or self._out_of_patience():
                    raise
                on_fault(in_one_line(error))
            await self._backoff.wait()

    def _out_of_patience(self) -> bool:
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        return now - self._failing_since > self._patience


class PassingFault(MillraceError):
    """A worker process met a fault that may pass; the message is its line about it."""


def in_one_line(error: Exception) -> str:
    """For people: who does not answer, and what it says."""
    line = first_line(error)
    if isinstance(error, KafkaError):
        return f"for Kafka: {line.removeprefix(f'{type(error).__name__}: ')}"
    return f"for Postgres: {line}" if isinstance(error, psycopg.Error) else line


def may_pass(error: Exception) -> bool:
    """Whether the same can succeed later without anybody changing the events, the code or the rights."""
    if isinstance(error, psycopg.errors.DiskFull):
        return False  # somebody has to make room, and can then run the command again
    return is_transient(error) or isinstance(error, KafkaError | ConnectionError | PassingFault)
