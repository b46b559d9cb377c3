"""A canary came by: said in the transaction that moves its listener on, so that it is true if that is."""

from collections.abc import Iterable
from typing import LiteralString

from millrace.domain.events import CanarySent, RecordedEvent
from millrace.postgres.database import Connection

# No "only if it is later": a stream is in one partition, and anyone who passes events of that holds its
# position row, or the checkpoint, until the commit.
_NOTE: LiteralString = """
    INSERT INTO public.canaries (listener, stream_id, version, position, sent_at, applied_at)
    SELECT %s, one.stream_id, one.version, one.position, one.sent_at, clock_timestamp()
    FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::timestamptz[]) AS one (stream_id, version, position,
        sent_at)
    ORDER BY one.stream_id
    ON CONFLICT (listener, stream_id) DO UPDATE
    SET version = excluded.version, position = excluded.position, sent_at = excluded.sent_at,
        applied_at = excluded.applied_at
"""


async def note_passed(connection: Connection, listener: str, events: Iterable[RecordedEvent]) -> None:
    """Note the last canary of each stream among `events`, which `listener` has passed; no statement when
    there is none.

    To be called inside the transaction, last, behind what locks the listener's position.
    """
    last = {event.stream_id: event for event in events if event.event_type == CanarySent.event_type}
    if not last:
        return
    found = last.values()
    await connection.execute(
        _NOTE,
        (
            listener,
            list(last),
            [event.version for event in found],
            [event.position for event in found],
            [event.recorded_at for event in found],
        ),
    )
