"""Read models at a deployment: the tables of a new version, and what is left of versions that nobody can
need."""

from millrace.postgres.database import Connection
from millrace.read_models.model import Copy, ReadModel
from millrace.store.append_lock import TAKE_APPEND_LOCK

_REGISTER = """
    INSERT INTO public.read_models (name, version, tables, consumer) VALUES (%s, %s, %s, %s)
    ON CONFLICT (name, version) DO UPDATE SET tables = excluded.tables, consumer = excluded.consumer
"""
_IS_FIRST = """
    SELECT NOT EXISTS (SELECT FROM public.events) AND NOT EXISTS (SELECT FROM public.read_model_copies
        WHERE name = %s)
"""
_CREATE = "SELECT public.create_read_model_copy(%s, %s, %s)"
# Older than the newest live version in front of the deployed one.
_OUTDATED = """
    SELECT c.version, c.copy, m.consumer FROM public.read_model_copies AS c JOIN public.read_models AS m
        USING (name, version)
    WHERE name = %(name)s AND version < (
        SELECT max(version) FROM public.read_model_copies
        WHERE name = %(name)s AND copy = 'live' AND version < %(version)s
    )
"""
_DISCARD = "SELECT public.discard_read_model_copy(%s, %s, %s)"
_FORGET_BY_VERSION = (
    "DELETE FROM public.read_model_parts WHERE name = %(name)s AND version = %(version)s",
    "DELETE FROM public.projection_checkpoints"
    " WHERE read_model IN (%(name)s, %(name)s || '.previous') AND version = %(version)s",
)
_FORGET_BY_CONSUMER = (
    "DELETE FROM public.consumer_positions WHERE consumer = ANY(%s)",
    "DELETE FROM public.consumer_streams WHERE consumer = ANY(%s)",
    "DELETE FROM public.parked_events WHERE consumer = ANY(%s)",
)


async def register_read_model(connection: Connection, read_model: ReadModel, consumer: str | None) -> None:
    """Let the service have copies of it: these are its tables, and topics reach it through this consumer."""
    key = (read_model.name, read_model.version)
    await connection.execute(_REGISTER, (*key, read_model.tables, consumer))


async def create_read_model(connection: Connection, read_model: ReadModel) -> None:
    """Create the tables of a new version, inside the caller's transaction: live at once in a fresh store.

    Where there are events, or an older version, they are those of the copy that the service first builds
    beside what its readers have (millrace/rebuild/build_first.py), so that nobody sees it half full.
    """
    # No first event is appended between the look and the commit.
    await connection.execute(TAKE_APPEND_LOCK)
    first = await (await connection.execute(_IS_FIRST, (read_model.name,))).fetchone() == (True,)
    copy = Copy.LIVE if first else Copy.NEXT
    await connection.execute(_CREATE, (read_model.name, read_model.version, str(copy)))


async def discard_outdated(connection: Connection, read_model: ReadModel) -> None:
    """Get rid of versions that are older than the one that a roll-back of this deployment would go to.

    That is the newest version in front of the deployed one that is live; it stays, as does every newer one.
    """
    outdated = await connection.execute(_OUTDATED, {"name": read_model.name, "version": read_model.version})
    for version, copy, consumer in await outdated.fetchall():
        await connection.execute(_DISCARD, (read_model.name, version, copy))
        for statement in _FORGET_BY_VERSION:
            await connection.execute(statement, {"name": read_model.name, "version": version})
        if consumer is not None:
            names = [consumer, *(f"{consumer}.{other}" for other in (Copy.NEXT, Copy.PREVIOUS))]
            for statement in _FORGET_BY_CONSUMER:
                await connection.execute(statement, (names,))


async def sweep(connection: Connection) -> None:
    """Drop the tables that were discarded, unless somebody still reads them."""
    await connection.execute("SELECT public.sweep_read_model_copies()")
