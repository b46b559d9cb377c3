"""Which stream is meant: its kind, and what to say when there is none of that name."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import LiteralString

from millrace.domain.stream_kind import StreamKind
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import Pool
from millrace.runtime.errors import ToolError

_ALIKE = 0.9
_RECENT: LiteralString = """
    SELECT stream_id FROM (SELECT stream_id, position FROM public.events ORDER BY position DESC LIMIT 10000)
        AS recent
    WHERE starts_with(stream_id, %(prefix)s) ORDER BY position DESC LIMIT 1
"""
# The neighbours in the index: a name that was cut off, or mistyped near its end, lies next to the right one.
_NEAR: LiteralString = """
    (SELECT stream_id FROM public.events WHERE stream_id > %(given)s ORDER BY stream_id, version LIMIT 1)
    UNION ALL
    (SELECT stream_id FROM public.events WHERE stream_id < %(given)s ORDER BY stream_id DESC, version DESC
        LIMIT 1)
    UNION ALL
    (SELECT stream_id FROM public.events WHERE stream_id = ANY(%(spellings)s) LIMIT 1)
"""


def kind_of(definition: ServiceDefinition, stream_id: str) -> StreamKind | None:
    """The kind of stream that the id belongs to; None: not one of this service's."""
    return next((kind for kind in definition.streams if stream_id.startswith(kind.prefix)), None)


async def no_such_stream(pool: Pool, definition: ServiceDefinition, stream_id: str) -> ToolError:
    """Says that there is no such stream, and which one may be meant."""
    kind = kind_of(definition, stream_id)
    prefixes = [kind.prefix for kind in definition.streams]
    if kind is None:
        names = " or ".join(f"{prefix}…" for prefix in prefixes)
        message = f"'{stream_id}' is no stream of this service: its ids begin with {names}"
    else:
        message = f"there is no stream {stream_id}"
    if meant := await _similar(pool, prefixes, stream_id):
        return ToolError(f"{message}; did you mean {meant}?")
    if kind and (recent := await _first(pool, _RECENT, {"prefix": kind.prefix})):
        return ToolError(f"{message}; the one that changed last is {recent[0]}")
    return ToolError(message)


async def _similar(pool: Pool, prefixes: Sequence[str], given: str) -> str | None:
    spellings = [prefix + part for prefix in prefixes for part in (given, given.upper(), given.lower())]
    for prefix in prefixes:
        if given.startswith(prefix):
            name = given.removeprefix(prefix)
            spellings += [prefix + name.upper(), prefix + name.lower()]
    found = await _first(pool, _NEAR, {"given": given, "spellings": spellings})
    likely = [name for name in found if name in spellings or name.startswith(given) or _alike(name, given)]
    return max(likely, key=lambda name: SequenceMatcher(None, name, given).ratio(), default=None)


def _alike(name: str, given: str) -> bool:
    return SequenceMatcher(None, name, given).ratio() >= _ALIKE


async def _first(pool: Pool, query: LiteralString, parameters: dict[str, object]) -> list[str]:
    async with pool.connection() as connection:
        return [name for (name,) in await (await connection.execute(query, parameters)).fetchall()]
