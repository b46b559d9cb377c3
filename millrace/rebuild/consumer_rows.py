"""The rows that tell what a copy of a topic-fed read model has consumed, when copies change places.

Position rows and parked events are few: they are renamed. Stream rows are as many as the streams, and
renaming each would keep the consumer waiting for seconds. But two copies that stand at the same offsets have
seen the same versions: so one copy's stream rows are made those of the other by writing the differences, of
which there are few or none.
"""

from millrace.consumer import positions
from millrace.postgres.database import Connection
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild.copies import abandon, consumer_of, delete_consumer, is_live

_RENAME = (
    "DELETE FROM public.consumer_positions WHERE consumer = %(after)s",
    "DELETE FROM public.parked_events WHERE consumer = %(after)s",
    "UPDATE public.consumer_positions SET consumer = %(after)s WHERE consumer = %(before)s",
    "UPDATE public.parked_events SET consumer = %(after)s WHERE consumer = %(before)s",
)
_DIFFERENCES = """
    WITH differing AS MATERIALIZED (
        SELECT stream_id, source.version AS wanted, source.event_id AS wanted_id, source.position
            AS wanted_position,
               target.version AS found, target.event_id AS found_id, target.position AS found_position
        FROM (SELECT * FROM public.consumer_streams WHERE consumer = %(source)s) AS source
        FULL JOIN (SELECT * FROM public.consumer_streams WHERE consumer = %(target)s) AS target
            USING (stream_id)
        WHERE (source.version, source.event_id, source.position)
              IS DISTINCT FROM (target.version, target.event_id, target.position)
    ), removed AS (
        DELETE FROM public.consumer_streams AS s USING differing AS d
        WHERE s.consumer = %(target)s AND s.stream_id = d.stream_id AND d.wanted IS NULL
    ), written AS (
        INSERT INTO public.consumer_streams (consumer, stream_id, version, event_id, position)
        SELECT %(target)s, stream_id, wanted, wanted_id, wanted_position FROM differing WHERE wanted
            IS NOT NULL
        ON CONFLICT (consumer, stream_id) DO UPDATE
        SET version = excluded.version, event_id = excluded.event_id, position = excluded.position
    )
"""
_ASSUME = _DIFFERENCES + "SELECT count(*) FROM differing"  # noqa: S608 - constants
# A statement changes a row once: each row is that of one consumer name, in one of these parts.
_EXCHANGE = (
    _DIFFERENCES  # noqa: S608 - constants
    + """, removed_there AS (
        DELETE FROM public.consumer_streams AS s USING differing AS d
        WHERE s.consumer = %(source)s AND s.stream_id = d.stream_id AND d.found IS NULL
    ), written_there AS (
        INSERT INTO public.consumer_streams (consumer, stream_id, version, event_id, position)
        SELECT %(source)s, stream_id, found, found_id, found_position FROM differing WHERE found IS NOT NULL
        ON CONFLICT (consumer, stream_id) DO UPDATE
        SET version = excluded.version, event_id = excluded.event_id, position = excluded.position
    )
    SELECT count(*) FROM differing"""
)


async def prepare_cutover(connection: Connection, feed: Feed) -> None:
    """Do beforehand what would keep the consumer waiting: note what the live copy has seen, as `previous`.

    That takes the place of what an older previous copy has seen, so that one is discarded here already.
    Harmless to repeat, and the cutover is right without it. Nothing to do for a copy that the service's store
    feeds.
    """
    if not feed.topics or not await is_live(connection, feed.model):
        return
    async with connection.transaction():
        await abandon(connection, feed, Copy.PREVIOUS)
        await _assume(connection, feed.consumer, consumer_of(feed, Copy.PREVIOUS))


async def cut_over_rows(connection: Connection, feed: Feed, *, was_live: bool) -> None:
    """live becomes previous, next becomes live."""
    live, following, previous = (consumer_of(feed, copy) for copy in (Copy.LIVE, Copy.NEXT, Copy.PREVIOUS))
    # Another builder that believes to be the only one finishes its batch first, and its next one fails.
    await positions.hold(connection, following)
    if was_live:
        await _rename(connection, live, previous)
        await _assume(connection, live, previous)
    await _rename(connection, following, live)
    await _assume(connection, following, live)
    await delete_consumer(connection, following)


async def exchange_rows(connection: Connection, feed: Feed) -> None:
    """live and previous change places."""
    live, previous = consumer_of(feed, Copy.LIVE), consumer_of(feed, Copy.PREVIOUS)
    aside = f"{feed.consumer}.aside"
    for before, after in ((live, aside), (previous, live), (aside, previous)):
        await _rename(connection, before, after)
    await connection.execute(_EXCHANGE, {"source": live, "target": previous})


async def _assume(connection: Connection, source: str, target: str) -> None:
    await connection.execute(_ASSUME, {"source": source, "target": target})


async def _rename(connection: Connection, before: str, after: str) -> None:
    """What there is under the name `after` gives way."""
    for statement in _RENAME:
        await connection.execute(statement, {"before": before, "after": after})
