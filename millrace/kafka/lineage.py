"""The record that says where one epoch of a store ended and the next one begins
(docs/adr/0001-restored-stores.md).

The relay writes one into every partition, in front of the first event of the new epoch. It has no key, so
that no stream is named, and it is the same record in every partition and after every repetition.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from millrace.kafka.record import (
    CONTENT_TYPE,
    FORMAT_2,
    ConsumedRecord,
    Headers,
    MalformedRecord,
    RecordFormat,
)
from millrace.kafka.record import fields as read
from millrace.kafka.record.format import format_in
from millrace.kafka.record.writing import rfc3339

EVENT_TYPE = "StoreLineage"
HEADER = "millrace_lineage"


@dataclass(frozen=True, slots=True)
class Lineage:
    """The store's epoch `old_epoch` ended at position `ended_at`; the store goes on as `new_epoch`.

    `number` counts the renewals of one store from 1. `ended_at` is the last position of the old epoch that
    the store still has, 0 for none. `prefixes`: what the ids of the store's streams begin with.
    """

    number: int
    old_epoch: UUID
    ended_at: int
    new_epoch: UUID
    prefixes: tuple[str, ...]


def lineage_record(
    lineage: Lineage, source: str, generation: int, at: datetime, *, format: RecordFormat = FORMAT_2
) -> tuple[None, bytes, Headers]:
    """Key, value and headers of the record, for each partition of the topic.

    `source` is the CloudEvents source of the store's service, `generation` the topic's, `at` when the epoch
    was renewed. Of `format` only the prefix of the type counts: lineage records exist in format 2 alone.
    """
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", f"{format.type_prefix}.{EVENT_TYPE}".encode()),
        ("ce_source", source.encode()),
        ("ce_id", str(lineage.new_epoch).encode()),  # unique, and the same each time it is sent
        ("ce_time", rfc3339(at)),
        ("content-type", CONTENT_TYPE.encode()),
        ("millrace_format", b"2"),
        (HEADER, b"%d" % lineage.number),
        ("millrace_generation", b"%d" % generation),
    ]
    return None, orjson.dumps(asdict(lineage)), headers


def read_lineage(record: ConsumedRecord) -> Lineage | None:
    """What a lineage record says; None for a record without the header `millrace_lineage`.

    Raises MalformedRecord, which names the header (or "value") that is missing or wrong. Whether the source
    is that of the topic's service is for the caller to judge (`record_source`).
    """
    headers = dict(record.headers)
    if HEADER not in headers:
        return None
    number = read.number(headers, HEADER)
    _check_headers(headers)
    lineage = _lineage(record.value)
    if lineage.number != number:
        raise MalformedRecord(HEADER, f"is {number}, the value says {lineage.number}")
    return lineage


def _check_headers(headers: Mapping[str, bytes]) -> None:
    read.expect(headers, "ce_specversion", "1.0")
    read.expect(headers, "content-type", CONTENT_TYPE)
    if format_in(headers) != 2:
        raise MalformedRecord("millrace_format", "is missing")
    if not read.text(headers, "ce_type").endswith(f".{EVENT_TYPE}"):
        raise MalformedRecord(
            "ce_type", f"is {headers['ce_type']!r}, expected a type that ends in .{EVENT_TYPE}"
        )
    read.text(headers, "ce_source")
    read.uuid(headers, "ce_id")
    read.time(headers, "ce_time")
    read.number(headers, "millrace_generation")


def _lineage(value: bytes | None) -> Lineage:
    if value is None:
        raise MalformedRecord("value", "is missing")
    try:
        found: Any = orjson.loads(value)
        lineage = Lineage(
            number=found["number"],
            old_epoch=UUID(found["old_epoch"]),
            ended_at=found["ended_at"],
            new_epoch=UUID(found["new_epoch"]),
            prefixes=tuple(found["prefixes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # no UUID, no object, no JSON
        raise MalformedRecord("value", f"is no lineage: {value!r}") from error
    if problem := _problem(lineage, found["prefixes"]):
        raise MalformedRecord("value", f"{problem}: {value!r}")
    return lineage


def _problem(lineage: Lineage, prefixes: Any) -> str | None:
    if type(lineage.number) is not int or lineage.number < 1:
        return "number is no number from 1"
    if type(lineage.ended_at) is not int or not 0 <= lineage.ended_at <= read.BIGINT_MAX:
        return "ended_at is no position"
    if lineage.old_epoch == lineage.new_epoch:
        return "the new epoch is the old one"
    # An empty prefix would be every stream's.
    if type(prefixes) is not list or not all(isinstance(one, str) and one for one in prefixes):
        return "prefixes are no list of texts"
    return None
