"""Trying again what may succeed later: a database or a broker that is away for a while."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
from aiokafka.errors import KafkaError

from chassis.backoff import Backoff
from chassis.database import is_transient
from chassis.tools import first_line

T = TypeVar("T")

PATIENCE = 60.0  # seconds without any progress


class Persistence:
    """Tries for `patience` seconds from the last progress on, then lets the fault out."""

    def __init__(self, patience: float = PATIENCE, backoff: Backoff | None = None) -> None:
        self._patience = patience
        self._backoff = backoff or Backoff(initial=0.2, maximum=5.0)
        self._failing_since: float | None = None

    def progressed(self) -> None:
        """Something was done: the next fault is a new one."""
        self._failing_since = None
        self._backoff.reset()

    async def do(self, work: Callable[[], Awaitable[T]], on_fault: Callable[[str], None]) -> T:
        """What `work` returns. `on_fault` is told, in one line, of each fault that is waited for."""
        while True:
            try:
                return await work()
            except Exception as error:
                if not may_pass(error) or self._out_of_patience():
                    raise
                on_fault(f"{type(error).__name__}: {first_line(error)}")
            await self._backoff.wait()

    def _out_of_patience(self) -> bool:
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        return now - self._failing_since > self._patience


class PassingFault(Exception):
    """A worker process met a fault that may pass; the message is its line about it."""


def may_pass(error: Exception) -> bool:
    """Whether the same can succeed later without anybody changing the events, the code or the rights."""
    if isinstance(error, psycopg.errors.DiskFull):
        return False  # somebody has to make room, and can then say the same command again
    return is_transient(error) or isinstance(error, KafkaError | ConnectionError | PassingFault)
