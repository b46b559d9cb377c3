"""The states of all streams of a kind, in one pass over the store."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from millrace.domain.decider import C, Decider
from millrace.domain.events import MalformedEvent, UnknownEvent
from millrace.store import EventStore, Shard

S = TypeVar("S")


async def fold_streams(
    store: EventStore,
    decider: Decider[S, C],
    *,
    prefix: str = "",
    until: int | None = None,
    shard: Shard | None = None,
) -> AsyncGenerator[tuple[str, int, S], None]:
    """Stream id, version and state of every stream whose id begins with `prefix`, in the order of their ids.

    `until` leaves out what is behind that position, `shard` the streams of other shards. One scan in stream
    order: the memory that it needs is that of a page of events, however many there are. Raises UnknownEvent
    or MalformedEvent, which name the event. Close it (contextlib.aclosing) when you leave it early.
    """
    decode, evolve, initial = store.registry.decode, decider.evolve, decider.initial
    current, last, state = "", 0, initial
    async with aclosing(store.stream_pages(prefix=prefix, until=until, shard=shard)) as pages:
        async for page in pages:
            for stream_id, version, event_type, schema_version, data in page:
                if stream_id != current:
                    if current:
                        yield current, last, state
                    current, state = stream_id, initial
                try:
                    state = evolve(state, decode(event_type, schema_version, data))
                except (UnknownEvent, MalformedEvent) as error:
                    raise type(error)(f"version {version} of {stream_id}: {error}") from error
                last = version
    if current:
        yield current, last, state
