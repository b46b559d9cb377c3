"""What a fetch brought, as the heads of the records that a consumer is given. Pure.

A consumer is given neither transaction markers nor, since it reads what was committed, records of aborted
transactions. So these don't wait for anybody: `heads_at` says how far there is nothing else.

Anybody can write to a topic. A record that can't be read costs its own head; a batch whose bytes nobody can
decode (a codec that is missing here, a broken batch) the heads of its records. Both leave a head without a
time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from aiokafka.record.control_record import ABORT_MARKER, ControlRecord

from board.observations import RecordHead
from millrace.kafka.lenient_records import LenientRecords
from millrace.kafka.record import type_name

_SPAN = 100_000
"""Offsets of an undecodable batch that get a head at most: its header may claim anything."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What lies from an offset on. `aborted`: producer id and first offset of each aborted transaction in
    it."""

    data: bytes
    aborted: Sequence[tuple[int, int]] = ()


NOTHING = Fetched(b"")


class Heads(NamedTuple):
    """`found`: offset that was asked for -> the record there, or the next one where there is none.

    `reached`: the offset behind what was read; of what was asked for below it and not found, no record lies
    in between.
    """

    found: dict[int, RecordHead]
    reached: int


def heads_at(fetched: Fetched, offsets: Sequence[int]) -> Heads:
    """The records at these offsets (ascending). What `fetched` doesn't hold is missing."""
    heads: dict[int, RecordHead] = {}
    left = iter(offsets)
    wanted = next(left, None)
    reached = 0
    for reached, records in _batches(fetched):
        for record in records:
            while wanted is not None and record.offset >= wanted:
                heads[wanted] = record
                wanted = next(left, None)
            if wanted is None:
                return Heads(heads, reached)
    return Heads(heads, reached)


def read_heads(fetched: Fetched, offset: int) -> tuple[list[RecordHead], int]:
    """All records from `offset` on, and the offset behind what was read."""
    heads: list[RecordHead] = []
    reached = offset
    for behind, records in _batches(fetched):
        heads.extend(head for head in records if head.offset >= offset)
        reached = max(reached, behind)
    return heads, reached


def _batches(fetched: Fetched) -> Iterator[tuple[int, Iterator[RecordHead]]]:
    """Each whole batch: the offset behind it, and its records; none of a batch that no consumer is given."""
    batches, aborts = LenientRecords(fetched.data), _Aborts(fetched.aborted)
    while batches.has_next():
        batch = batches.next_batch()
        if batch is None:
            break  # cut off
        yield batch.next_offset, iter(()) if aborts.hides(batch) else _heads(batch)


class _Aborts:
    """Which batches are of transactions that were aborted, as aiokafka's fetcher decides it."""

    def __init__(self, aborted: Sequence[tuple[int, int]]) -> None:
        self._coming = sorted(aborted, key=lambda one: one[1], reverse=True)
        self._producers: set[int] = set()

    def hides(self, batch: Any) -> bool:
        """Call it for each batch in order."""
        while self._coming and self._coming[-1][1] <= batch.base_offset:
            self._producers.add(self._coming.pop()[0])
        if getattr(batch, "is_control_batch", False):
            if _is_abort(batch):
                self._producers.discard(batch.producer_id)
            return True
        return getattr(batch, "is_transactional", False) and batch.producer_id in self._producers


def _is_abort(batch: Any) -> bool:
    try:
        return bool(ControlRecord.parse(next(batch).key) == ABORT_MARKER)
    except Exception:  # noqa: BLE001 - nobody but a broker writes one
        return False


def _heads(batch: Any) -> Iterator[RecordHead]:
    reached = batch.base_offset
    records = iter(batch)
    while True:
        try:
            record = next(records, None)
        except Exception:  # noqa: BLE001 - whatever the bytes are, the other batches are read
            last = min(batch.next_offset, reached + _SPAN)
            yield from (RecordHead(offset=offset, timestamp=None) for offset in range(reached, last))
            return
        if record is None:
            return
        reached = record.offset + 1
        yield _head_or_none(record)


def _head_or_none(record: Any) -> RecordHead:
    try:
        return head_of(record)
    except Exception:  # noqa: BLE001 - it costs this record's number
        return RecordHead(offset=record.offset, timestamp=None)


def head_of(record: Any) -> RecordHead:
    """What a record's headers say. What isn't as a relay writes it is None."""
    headers = dict(record.headers or ())
    ce_type = _text(headers.get("ce_type"))
    return RecordHead(
        offset=record.offset,
        timestamp=None if record.timestamp is None else record.timestamp / 1000,
        committed_at=_time(headers.get("ce_time")),
        position=_number(headers.get("millrace_position")),
        epoch=_uuid(headers.get("millrace_epoch")),
        generation=_number(headers.get("millrace_generation")),
        stream_id=_text(headers.get("ce_subject")),
        version=_number(headers.get("millrace_version")),
        event_id=_text(headers.get("ce_id")),
        type=None if ce_type is None else type_name(ce_type),
    )


def _text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode()[:255]
    except UnicodeDecodeError:
        return None


def _number(raw: bytes | None) -> int | None:
    return int(raw) if raw is not None and raw.isdigit() and len(raw) < 19 else None


def _uuid(raw: bytes | None) -> UUID | None:
    try:
        return UUID(_text(raw) or "")
    except ValueError:
        return None


def _time(raw: bytes | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(_text(raw) or "")
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):  # also a time that no year holds in UTC
        return None
