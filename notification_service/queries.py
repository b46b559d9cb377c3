"""What the notification service knows, read from the read model `notifications`: a moment behind the
store."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from millrace import Pool
from notification_service.read_models.notifications import NotificationRow

_LIST: LiteralString = """
    SELECT notification_id, order_id, customer_id, kind, status, attempts, reason, next_attempt_at,
        message_id,
           requested_at, sent_at, position, version
    FROM notifications
    WHERE position < %(before)s
      AND (%(order_id)s::uuid IS NULL OR order_id = %(order_id)s)
      AND (%(customer_id)s::uuid IS NULL OR customer_id = %(customer_id)s)
    ORDER BY position DESC LIMIT %(limit)s
"""
# What waits for the end of an outage is due whenever something can be sent at all: its next attempt was a
# guess.
_DUE: LiteralString = """
    SELECT notification_id FROM notifications
    WHERE status IN ('requested', 'delayed')
      AND (status = 'requested' OR next_attempt_at <= %s OR reason = ANY(%s))
    ORDER BY coalesce(next_attempt_at, requested_at), position LIMIT %s
"""


class NotificationQueries:
    """Queries over notifications; one statement each."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def notifications(
        self, *, order_id: UUID | None, customer_id: UUID | None, before: int, limit: int
    ) -> list[NotificationRow]:
        """The newest in front; None does not narrow."""
        parameters = {"order_id": order_id, "customer_id": customer_id, "before": before, "limit": limit}
        async with (
            self._pool.connection() as connection,
            connection.cursor(binary=True, row_factory=class_row(NotificationRow)) as cursor,
        ):
            await cursor.execute(_LIST, parameters)
            return await cursor.fetchall()

    async def due(self, now: datetime, outages: Sequence[str], limit: int) -> list[UUID]:
        """What is to be sent now, longest due first. Who was delayed goes behind those who were not tried
        since."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_DUE, (now, list(outages), limit))
            return [row[0] for row in await cursor.fetchall()]
