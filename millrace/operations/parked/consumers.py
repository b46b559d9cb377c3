"""The service's consumers, made but not started, for commands that do their work by hand."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from millrace.consumer import Consumer, parked
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import open_pool
from millrace.postgres.wakeup import shared_wakeup
from millrace.process.settings import ServiceSettings
from millrace.runtime.errors import ToolError
from millrace.store import EventStore

_NAMED = 5  # streams that an error names


@asynccontextmanager
async def open_consumers(
    definition: ServiceDefinition, settings: ServiceSettings, name: str | None = None
) -> AsyncIterator[Sequence[Consumer]]:
    """All of them, or the one called `name`. Nothing connects to Kafka.

    Raises ToolError, with the names there are, when there is none called so.
    """
    async with (
        open_pool(settings.database_url, name=f"{definition.name}-parked", max_size=3) as pool,
        shared_wakeup(settings.database_url) as wakeup,
        EventStore(pool, definition.registry, wakeup=wakeup) as store,
    ):
        every = definition.build_consumers(pool, store, settings)
        chosen = [one for one in every if name in (None, one.name)]
        if name is not None and not chosen:
            names = ", ".join(one.name for one in every) or "none"
            raise ToolError(f"no consumer {name!r}; there are: {names}")
        yield chosen


async def not_parked(stream_id: str, consumers: Iterable[Consumer]) -> ToolError:
    """The error that `stream_id` is not parked, with the streams that are."""
    streams = dict.fromkeys([one.stream_id for consumer in consumers for one in await parked(consumer)])
    if not streams:
        return ToolError(f"{stream_id} is not parked; nothing is")
    more = f" and {len(streams) - _NAMED:,} more" if len(streams) > _NAMED else ""
    return ToolError(f"{stream_id} is not parked; parked are: {', '.join(list(streams)[:_NAMED])}{more}")
