"""The copies of read models in the database: which there are, how far they have come, and discarding one.

Everything takes part in the caller's transaction. `millrace.rebuild.builds` fills a copy,
`millrace.rebuild.cutover` makes it the live one.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from millrace.postgres.database import Connection
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy, ReadModel
from millrace.rebuild.builds import delete_parts, parts_of

_COPIES = """
    SELECT name, version, copy, began_at, built_at, since FROM public.read_model_copies
    ORDER BY name, version, array_position('{live,next,previous}', copy)
"""
_IS_LIVE = "SELECT FROM public.read_model_copies WHERE name = %s AND version = %s AND copy = 'live'"
_ABANDON = "SELECT public.abandon_read_model_copy(%s, %s, %s)"
_CHECKPOINT = "SELECT position FROM public.projection_checkpoints WHERE read_model = %s AND version = %s"
_SET_CHECKPOINT = """
    INSERT INTO public.projection_checkpoints (read_model, version, position) VALUES (%s, %s, %s)
    ON CONFLICT (read_model, version) DO UPDATE SET position = excluded.position,
        updated_at = clock_timestamp()
"""
_DELETE_CHECKPOINT = "DELETE FROM public.projection_checkpoints WHERE read_model = %s AND version = %s"
_OFFSETS = """
    SELECT topic, partition, max(next_offset) FROM public.consumer_positions
    WHERE consumer = %s GROUP BY topic, partition ORDER BY topic, partition
"""
_FORGET = (
    "DELETE FROM public.consumer_positions WHERE consumer = %s",
    "DELETE FROM public.consumer_streams WHERE consumer = %s",
    "DELETE FROM public.parked_events WHERE consumer = %s",
)

Partition = tuple[str, int]  # topic, partition


@dataclass(frozen=True, slots=True)
class CopyState:
    """A copy that there is: begun when, `built_at` when it had caught up (None: not yet), what it is since
    when."""

    name: str
    version: int
    copy: Copy
    began_at: datetime
    built_at: datetime | None
    since: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "copy", Copy(self.copy))  # from the database, a plain string


async def abandon(connection: Connection, feed: Feed, copy: Copy = Copy.NEXT) -> bool:
    """Discard the copy `next` (or `previous`) with all that is known of it; returns whether there was one.

    The caller holds `millrace.rebuild.rebuild_lock`. Call `sweep` after the commit.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = '600s'")  # for the rows of a million streams
        row = await (await connection.execute(_ABANDON, (*_key(feed.model), str(copy)))).fetchone()
        if copy is Copy.NEXT:
            await delete_parts(connection, feed.model)
        else:
            key = (checkpoint_name(feed.model, copy), feed.model.version)
            await connection.execute(_DELETE_CHECKPOINT, key)
        if feed.consumer:
            await delete_consumer(connection, consumer_of(feed, copy))
        return row == (True,)


async def sweep(connection: Connection) -> int:
    """Drop the tables of copies that were discarded, unless somebody still reads them; returns how many went.

    Apart from the cutover, which so waits for nobody. Call it in no transaction.
    """
    row = await (await connection.execute("SELECT public.sweep_read_model_copies()")).fetchone()
    return int(row[0]) if row else 0


async def list_copies(connection: Connection) -> list[CopyState]:
    """Every copy of every read model in this database, also of versions that this program does not know."""
    async with connection.cursor(row_factory=class_row(CopyState)) as cursor:
        await cursor.execute(_COPIES)
        return await cursor.fetchall()


async def is_live(connection: Connection, model: ReadModel) -> bool:
    """Whether this version of the read model has a live copy: readers and writers can use it."""
    return await (await connection.execute(_IS_LIVE, _key(model))).fetchone() is not None


async def position_of(connection: Connection, model: ReadModel, copy: Copy) -> int:
    """How far a copy that the service's store feeds has come; of `next` the part that is furthest behind. 0:
    not begun."""
    if copy is Copy.NEXT:
        return min((part.position for part in await parts_of(connection, model)), default=0)
    key = (checkpoint_name(model, copy), model.version)
    row = await (await connection.execute(_CHECKPOINT, key)).fetchone()
    return int(row[0]) if row else 0


async def move_position(connection: Connection, model: ReadModel, copy: Copy, position: int) -> None:
    """Move the checkpoint of the live or the previous copy, in the transaction of its rows (parts:
    `move_part`)."""
    await connection.execute(_SET_CHECKPOINT, (checkpoint_name(model, copy), model.version, position))


async def offsets_of(connection: Connection, feed: Feed, copy: Copy) -> dict[Partition, int]:
    """The next offset of each partition for a copy that topics feed; partitions without a record are
    missing."""
    cursor = await connection.execute(_OFFSETS, (consumer_of(feed, copy),))
    return {(topic, partition): offset async for topic, partition, offset in cursor}


def checkpoint_name(model: ReadModel, copy: Copy) -> str:
    """The key of a copy in projection_checkpoints; no read model can be called like that of a previous
    one."""
    if copy is Copy.NEXT:
        raise ValueError("the copy that is being built has parts, no checkpoint")
    return model.name if copy is Copy.LIVE else f"{model.name}.{copy}"


def consumer_of(feed: Feed, copy: Copy) -> str:
    """The consumer name of a copy: its key in consumer_positions, consumer_streams and parked_events."""
    return feed.consumer if copy is Copy.LIVE else f"{feed.consumer}.{copy}"


async def delete_consumer(connection: Connection, consumer: str) -> None:
    """Forget everything of this consumer name."""
    for statement in _FORGET:
        await connection.execute(statement, (consumer,))


def _key(model: ReadModel) -> tuple[str, int]:
    return model.name, model.version
