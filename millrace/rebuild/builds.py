"""Builds: copies of read models on their way, part by part. What is done is in the transaction of the rows.

A build is resumed by beginning it again, no matter who was killed in the middle of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from millrace.domain.errors import MillraceError
from millrace.postgres.database import Connection
from millrace.read_models.model import Copy, ReadModel

STORE = "store"
"""The source of the parts of a read model that is fed by the service's store."""

_BEGIN = "SELECT public.begin_read_model_copy(%s, %s)"
_PARTS = """
    SELECT source, part AS number, position, events FROM public.read_model_parts
    WHERE name = %s AND version = %s ORDER BY source, part
"""
_LOCK_PARTS = """
    SELECT FROM public.read_model_parts WHERE name = %s AND version = %s ORDER BY source, part FOR UPDATE
"""
_ADD_PARTS = """
    INSERT INTO public.read_model_parts (name, version, source, part, position, events)
    SELECT %s, %s, new.* FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[]) AS new
"""
_MOVE_PART = """
    UPDATE public.read_model_parts SET position = %s, events = events + %s, updated_at = clock_timestamp()
    WHERE name = %s AND version = %s AND source = %s AND part = %s AND position = %s
"""
_DELETE_PARTS = "DELETE FROM public.read_model_parts WHERE name = %s AND version = %s"
_BEGAN = "SELECT began_at FROM public.read_model_copies WHERE name = %s AND version = %s AND copy = 'next'"
_BUILT = """
    UPDATE public.read_model_copies SET built_at = coalesce(built_at, clock_timestamp())
    WHERE name = %s AND version = %s AND copy = 'next'
"""


class PartMoved(MillraceError):
    """Somebody else moved a part of a build, or discarded the build: anyone who finds out undoes its batch
    and ends."""


@dataclass(frozen=True, slots=True)
class Part:
    """A shard of a build. `position`: of the store, or the next offset; `events`: how many it applied so
    far."""

    source: str
    number: int
    position: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True)
class Build:
    """A copy that is being built, with its parts. `resumed`: it had been begun before."""

    model: ReadModel
    began_at: datetime
    parts: tuple[Part, ...]
    resumed: bool

    @property
    def schema(self) -> str:
        """Where its tables are."""
        return self.model.schema_of(Copy.NEXT)

    @property
    def events(self) -> int:
        """How many events it applied so far."""
        return sum(part.events for part in self.parts)


async def begin(connection: Connection, model: ReadModel, parts: Sequence[tuple[str, int]]) -> Build:
    """Begin to build the copy `next`, or return the unfinished build with the parts that it was begun with.

    `parts` are (source, number): `(STORE, 0), (STORE, 1)` for two shards of the service's streams, topic
    and partition for a model that is fed by topics. The caller holds `rebuild_lock`. A copy that `migrate`
    has made is taken. Raises psycopg.Error: a full disk, a missing right.
    """
    async with connection.transaction():
        made = await (await connection.execute(_BEGIN, _key(model))).fetchone()
        found = await parts_of(connection, model)
        if not found:
            await _add_parts(connection, model, [Part(*part) for part in parts])
        row = await (await connection.execute(_BEGAN, _key(model))).fetchone()
        assert row is not None, "begin_read_model_copy made it"
        return Build(
            model, row[0], await parts_of(connection, model), resumed=made == (False,) and bool(found)
        )


async def find_build(connection: Connection, model: ReadModel) -> Build | None:
    """The build as it stands at this moment; None when nothing is being built. One that nobody began has no
    parts."""
    row = await (await connection.execute(_BEGAN, _key(model))).fetchone()
    return None if row is None else Build(model, row[0], await parts_of(connection, model), resumed=True)


async def move_part(connection: Connection, model: ReadModel, part: Part, position: int, events: int) -> Part:
    """Move `part` on to `position`, `events` more applied; returns it as it is then. In the transaction of
    the rows.

    Call it before the rows are written: it locks the part until the commit, so that of two builders (one of
    them lost its session and has not noticed) the second one waits, and then raises PartMoved, having written
    nothing.
    """
    cursor = await connection.execute(
        _MOVE_PART, (position, events, *_key(model), part.source, part.number, part.position)
    )
    if cursor.rowcount != 1:
        raise PartMoved(
            f"part {part.number} of {part.source} of {model.schema} is not at {part.position} any more"
        )
    return Part(part.source, part.number, position, part.events + events)


async def merge_parts(connection: Connection, model: ReadModel) -> Part:
    """The parts of the service's store, all at one position, become one part: shards grow together for the
    catch-up.

    Raises ValueError when they are not all at one position. Harmless when there is one part only.
    """
    async with connection.transaction():
        parts = await lock_parts(connection, model)
        positions = {part.position for part in parts}
        if len(positions) != 1:
            raise ValueError(f"the parts of {model.schema_of(Copy.NEXT)} are at {sorted(positions)}")
        merged = Part(STORE, 0, positions.pop(), sum(part.events for part in parts))
        if len(parts) > 1:
            await delete_parts(connection, model)
            await _add_parts(connection, model, [merged])
        return merged


async def mark_built(connection: Connection, model: ReadModel) -> None:
    """The copy `next` has caught up: it may become the live one whenever somebody says so."""
    await connection.execute(_BUILT, _key(model))


async def parts_of(connection: Connection, model: ReadModel) -> tuple[Part, ...]:
    """The parts of what is being built; none when nothing was begun."""
    async with connection.cursor(row_factory=class_row(Part)) as cursor:
        await cursor.execute(_PARTS, _key(model))
        return tuple(await cursor.fetchall())


async def lock_parts(connection: Connection, model: ReadModel) -> tuple[Part, ...]:
    """The parts, once nobody is in the middle of a batch, and nobody else moves them until the commit."""
    await connection.execute(_LOCK_PARTS, _key(model))
    return await parts_of(connection, model)  # a statement of its own: it sees what the others committed


async def delete_parts(connection: Connection, model: ReadModel) -> None:
    """Nothing is being built any more."""
    await connection.execute(_DELETE_PARTS, _key(model))


async def _add_parts(connection: Connection, model: ReadModel, parts: Sequence[Part]) -> None:
    columns = [[getattr(part, name) for part in parts] for name in ("source", "number", "position", "events")]
    await connection.execute(_ADD_PARTS, (*_key(model), *columns))


def _key(model: ReadModel) -> tuple[str, int]:
    return model.name, model.version
