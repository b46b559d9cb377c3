"""Appending what came of an attempt."""

import asyncio
from typing import Final

import psycopg

from millrace import CommandContext, CommandHandler, EventStore, WrongExpectedVersion, get_logger
from millrace.postgres.database import is_data_fault
from millrace.runtime.backoff import Backoff
from notification_service.domain import NOTIFICATION, Notification, NotificationCommand
from notification_service.outbox import Pending

log = get_logger(__name__)

ACTOR: Final = "notification-service.sender"


class Recorder:
    """Writes outcomes into the event store. `stopping` makes it give up on a database that is away."""

    def __init__(self, store: EventStore, stopping: asyncio.Event) -> None:
        self._handler = CommandHandler[Notification, NotificationCommand](store, NOTIFICATION)
        self._stopping = stopping

    async def record(self, pending: Pending, command: NotificationCommand) -> None:
        """Append, and don't let go while the database is away: what is not recorded is sent again."""
        last = pending.last
        context = CommandContext(
            ACTOR, last.metadata.correlation_id, str(last.event_id), last.metadata.traceparent
        )
        backoff = Backoff(initial=0.1, maximum=2.0)
        while True:
            try:
                await self._handler.execute(last.stream_id, command, context, expected_version=last.version)
            except WrongExpectedVersion:
                # Our own append whose answer was lost, or another sender's.
                log.warning("outcome was recorded already", command=type(command).__name__)
            except psycopg.Error as error:
                if is_data_fault(error):
                    raise
                log.warning("outcome is not recorded yet", error=repr(error))
                if await backoff.wait(self._stopping):
                    raise
                continue
            return
