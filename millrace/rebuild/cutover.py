"""The cutover: a copy that has caught up becomes the live one, in one transaction, while everything goes on.

Readers. A schema's name changes in one row of the catalogue, and no table is locked. A statement that is
under way goes on with the tables that it has opened: the old copy, complete. Any later one resolves the names
again, a prepared one too (Postgres plans it again, because the names' meaning changed), and finds the new
copy, complete.

Writers. A projector has the live checkpoint locked from the first statement of its transaction to the commit,
a consumer holds its name (`positions.hold`) in the same way. `lock_live` takes the same locks. So a batch is
either

* committed before the cutover gets the lock: the engine reads the checkpoint behind the lock, and brings the
  new copy to that position before the cutover; or
* not begun: the writer waits in its first statement, and has looked at no table of the read model. When it
  goes on, its next statement has a new snapshot and resolves `orders` to the new copy; and it goes on from
  the checkpoint that it now reads, which is the new copy's.

So no batch is applied to one copy and counted for the other. A writer that was frozen in the middle of its
batch is waited for, not overtaken: `idle_in_transaction_session_timeout` bounds that.
"""

from collections.abc import Sequence

from millrace.consumer import positions
from millrace.domain.errors import MillraceError
from millrace.postgres.database import Connection
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy, ReadModel
from millrace.rebuild.builds import Part, delete_parts, lock_parts
from millrace.rebuild.consumer_rows import cut_over_rows, exchange_rows
from millrace.rebuild.copies import (
    checkpoint_name,
    is_live,
    move_position,
    offsets_of,
    position_of,
)

_CREATE_CHECKPOINT = """
    INSERT INTO public.projection_checkpoints (read_model, version, position) VALUES (%s, %s, 0)
        ON CONFLICT DO NOTHING
"""
_LOCK_CHECKPOINT = """
    SELECT FROM public.projection_checkpoints WHERE read_model = %s AND version = %s FOR UPDATE
"""


class NotCaughtUp(MillraceError):
    """The copy that should become live is behind the live one: bring it to the live one's position first."""


async def lock_live(connection: Connection, feed: Feed) -> None:
    """Keep the live copy as it is until the end of the transaction: its projector or consumer waits.

    Must be the transaction's first statement, so that what is read next is what the last writer committed.
    `position_of` and `offsets_of` (Copy.LIVE) then tell where it stands. Commit soon. Raises LockNotAvailable
    (transient) when a writer keeps it for 10 seconds.
    """
    # To compare the rows of a million streams takes some seconds.
    await connection.execute("SET LOCAL statement_timeout = '60s'")
    if feed.topics:
        await positions.hold(connection, feed.consumer)
        return
    key = (checkpoint_name(feed.model, Copy.LIVE), feed.model.version)
    await connection.execute("SET LOCAL lock_timeout = '10s'")
    await connection.execute(_CREATE_CHECKPOINT, key)
    await connection.execute(_LOCK_CHECKPOINT, key)


async def cut_over(connection: Connection, feed: Feed) -> None:
    """The copy `next` becomes live, the live one becomes `previous`, an older previous one is discarded.

    In the transaction of `lock_live`. Raises NotCaughtUp when `next` is behind the live copy; psycopg.Error
    when there is none (ObjectNotInPrerequisiteState). Call `prepare_cutover` before, in a transaction of its
    own, and `copies.sweep` after the commit.
    """
    model = feed.model
    was_live = await is_live(connection, model)
    # Another builder that believes to be the only one finishes its batch first, and its next one fails.
    parts = await lock_parts(connection, model)
    if feed.topics:
        await _refuse_behind(connection, feed, Copy.NEXT)
        await cut_over_rows(connection, feed, was_live=was_live)
    else:
        await _cut_over_checkpoint(connection, model, parts, was_live=was_live)
    await delete_parts(connection, model)
    await connection.execute("SELECT public.cut_over_read_model_copy(%s, %s)", (model.name, model.version))


async def roll_back(connection: Connection, feed: Feed) -> None:
    """The live copy and the previous one change places. In the transaction of `lock_live`.

    Raises NotCaughtUp when the previous one was not brought to the live one's position first, and
    ObjectNotInPrerequisiteState when there is none.
    """
    model = feed.model
    await connection.execute("SELECT public.roll_back_read_model_copy(%s, %s)", (model.name, model.version))
    if feed.topics:
        await _refuse_behind(connection, feed, Copy.PREVIOUS)
        await exchange_rows(connection, feed)
    else:
        live = await position_of(connection, model, Copy.LIVE)
        previous = await position_of(connection, model, Copy.PREVIOUS)
        if previous < live:
            raise NotCaughtUp(f"{model.schema_of(Copy.PREVIOUS)} is at {previous}, {model.schema} at {live}")
        await move_position(connection, model, Copy.LIVE, previous)
        await move_position(connection, model, Copy.PREVIOUS, live)


async def _cut_over_checkpoint(
    connection: Connection, model: ReadModel, parts: Sequence[Part], *, was_live: bool
) -> None:
    reached = {part.position for part in parts}
    live = await position_of(connection, model, Copy.LIVE)
    if len(reached) != 1 or min(reached) < live:
        raise NotCaughtUp(f"{model.schema_of(Copy.NEXT)} is at {sorted(reached)}, {model.schema} at {live}")
    if was_live:
        await move_position(connection, model, Copy.PREVIOUS, live)
    await move_position(connection, model, Copy.LIVE, reached.pop())


async def _refuse_behind(connection: Connection, feed: Feed, copy: Copy) -> None:
    live = await offsets_of(connection, feed, Copy.LIVE)
    reached = await offsets_of(connection, feed, copy)
    behind = [
        f"{topic}/{partition} at {reached.get((topic, partition), 0)} instead of {offset}"
        for (topic, partition), offset in live.items()
        if reached.get((topic, partition), 0) < offset
    ]
    if behind:
        raise NotCaughtUp(f"{feed.model.schema_of(copy)} is behind {feed.model.schema}: {', '.join(behind)}")
