"""What is parked in a service's database, as `parked list` shows it."""

from collections.abc import Collection
from typing import Any

from millrace.consumer import parking
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import Connection
from millrace.read_models.model import Copy

Row = dict[str, Any]
"""One parked stream of one consumer, as `parked list --json` shows it; nothing of what its events hold."""


async def parked_rows(definition: ServiceDefinition, connection: Connection) -> list[Row]:
    """Every parked stream, oldest first; also those of consumers that this program does not have (`note` says
    so)."""
    found = await parking.overview(connection)
    return [_row(definition, first) for first in found]


def _row(definition: ServiceDefinition, first: dict[str, Any]) -> Row:
    return {
        "service": definition.name.removesuffix("-service"),
        "consumer": first["consumer"],
        "stream": first["stream_id"],
        "events": first["events"],
        "parked_at": first["parked_at"].isoformat(),
        "age": round(first["age"], 1),
        "event_type": first["event_type"],
        "version": first["version"],
        "position": parking.header_number(first["record_headers"], "millrace_position"),
        "topic": first["topic"],
        "partition": first["partition"],
        "offset": first["record_offset"],
        "error_class": first["error_class"],
        "error": first["error"],
        "attempts": first["attempts"],
        "note": _note(first["consumer"], definition.consumers),
    }


def _note(consumer: str, known: Collection[str]) -> str:
    """Why it can't be redriven here; empty when it can."""
    if consumer in known:
        return ""
    whose, _, copy = consumer.rpartition(".")
    if whose in known and copy == Copy.NEXT:
        return "the copy of a read model that is being built: can be redriven once it is live"
    if whose in known and copy == Copy.PREVIOUS:
        return "the copy of a read model that is kept for a roll-back"
    return "this program has no such consumer: an older version's, or one that was renamed"
