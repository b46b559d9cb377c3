"""What the streams of a service hold because of lost ones."""

from collections.abc import Iterable, Mapping, Sequence

from millrace.domain.events import RecordedEvent
from millrace.operations.definition import Held, Releases, ServiceDefinition
from millrace.operations.replay.stream_names import kind_of
from millrace.postgres.database import Connection
from millrace.store import EventStore

Events = Mapping[str, Sequence[RecordedEvent]]


async def own_events(
    store: EventStore, hook: Releases, lost: Iterable[str], *, connection: Connection | None = None
) -> Events:
    """Lost stream -> the events of the stream that answers it; none, if it was never answered."""
    own = {stream_id: hook.stream_of(stream_id) for stream_id in lost}
    found = await store.read_streams(dict.fromkeys(own.values(), 0), connection=connection)
    return {stream_id: found[answer] for stream_id, answer in own.items()}


def held(definition: ServiceDefinition, hook: Releases, events: Sequence[RecordedEvent]) -> Held | None:
    """What a stream with these events holds."""
    if not events:
        return None
    kind = kind_of(definition, events[0].stream_id)
    assert kind is not None  # the store holds streams of declared kinds only
    return hook.held(kind.decider.fold(recorded.event for recorded in events))
