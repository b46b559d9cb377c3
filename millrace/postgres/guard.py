"""Keeps a helper going: a task that others can do without ends no process, whatever it meets."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg

from millrace.postgres.stalls import told
from millrace.runtime.backoff import Backoff
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)


class Guard:
    """Awaits one turn of a helper after the other. What a turn raises is logged and shown in `problem`, which
    the helper's health tells; after a back-off comes the next turn."""

    def __init__(
        self, name: str, stopping: asyncio.Event | None = None, *, backoff: Backoff | None = None
    ) -> None:
        """`name`: the helper's, for the log. Without `stopping` it goes on until it is cancelled."""
        self.problem = ""
        """What the last turn raised, for people; empty after one that succeeded."""
        self._name = name
        self._stopping = stopping or asyncio.Event()
        self._backoff = backoff or Backoff(initial=0.2, maximum=10.0)

    async def keep(self, turn: Callable[[], Awaitable[None]]) -> None:
        """Until `stopping` is set. Raises nothing but a cancellation."""
        while not self._stopping.is_set():
            try:
                await turn()
            except Exception as error:  # noqa: BLE001 - the guard is here for whatever it is
                self._note(error)
                await self._backoff.wait(self._stopping)
            else:
                self.recovered()

    def _note(self, error: Exception) -> None:
        problem = f"database: {told(error)}" if isinstance(error, psycopg.Error) else told(error)
        if problem != self.problem:
            # A mistake of ours needs its traceback; a database that is away needs none each time.
            trace = None if isinstance(error, psycopg.OperationalError) else error
            log.warning("helper failed, trying again", helper=self._name, error=problem, exc_info=trace)
        self.problem = problem

    def recovered(self) -> None:
        """For a turn that goes on as long as nothing fails: it works."""
        if self.problem:
            log.info("helper works again", helper=self._name)
        self.problem = ""
        self._backoff.reset()
