"""What `lost list` shows of each lost stream."""

from typing import Any

from millrace.operations.definition import ServiceDefinition
from millrace.operations.lost.holdings import held, own_events
from millrace.operations.lost.streams import LostStream, read_lost
from millrace.postgres.database import Connection
from millrace.store import EventStore

Row = dict[str, Any]
"""One lost stream of one consumer, as `lost list --json` shows it."""


async def lost_rows(definition: ServiceDefinition, store: EventStore, connection: Connection) -> list[Row]:
    """Every lost stream, with what this service holds because of it."""
    lost = await read_lost(connection)
    hook = definition.releases
    holds: dict[str, str] = {}
    if hook is not None:
        open_ones = {one.stream_id for one in lost if one.consumer == hook.consumer and not one.settled}
        events = await own_events(store, hook, open_ones, connection=connection)
        found = {one: held(definition, hook, events[one]) for one in open_ones}
        holds = {one: holding.what for one, holding in found.items() if holding is not None}
    return [_row(definition, one, holds) for one in lost]


def _row(definition: ServiceDefinition, one: LostStream, holds: dict[str, str]) -> Row:
    hook = definition.releases
    answered = hook is not None and one.consumer == hook.consumer
    return {
        "service": definition.name.removesuffix("-service"),
        "consumer": one.consumer,
        "stream": one.stream_id,
        "version": one.version,
        "position": one.position,
        "epoch": str(one.epoch),
        "ended_at": one.ended_at,
        "noted_at": one.noted_at.isoformat(),
        "held": holds.get(one.stream_id, "") if answered else None,
        "released_at": one.released_at and one.released_at.isoformat(),
        "released_by": one.released_by,
        "reason": one.reason,
        "remedy": "" if one.settled else remedy(definition, one.consumer),
    }


def remedy(definition: ServiceDefinition, consumer: str) -> str:
    """What to do about the effects of lost events that `consumer` had applied."""
    service = definition.name.removesuffix("-service")
    for feed in definition.feeds:
        if feed.consumer == consumer:
            return (
                f"build the read model from what is left: millrace replay rebuild {service} {feed.model.name}"
            )
    if definition.releases is not None and definition.releases.consumer == consumer:
        return (
            f"take back what can be taken back: millrace lost release {service} --all --by YOU --reason"
            f" WHY --dry-run"
        )
    return f"this can't be taken back; millrace lost list {service} names the streams (docs/lost-events.md)"
