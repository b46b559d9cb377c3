"""What the board reads of a record: its headers, and only if they are as a relay writes them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from infra.board.kafka import head_of, heads_at, read_heads

GOOD = [
    ("ce_time", b"2026-11-23T12:00:00.250000Z"),
    ("millrace_position", b"17"),
    ("millrace_epoch", str(UUID(int=1)).encode()),
    ("millrace_generation", b"1"),
    ("millrace_version", b"3"),
    ("ce_subject", b"order-1"),
    ("ce_id", b"e-1"),
    ("ce_type", b"OrderCreated"),
]


@dataclass
class Record:
    headers: list[tuple[str, bytes]] = field(default_factory=lambda: list(GOOD))
    offset: int = 4
    timestamp: int = 1_700_000_000_000


def batch(base: int, count: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for n in range(count):
        builder.append(n, 1_700_000_000_000, b"key", b"a payload", GOOD)
    data = bytes(builder.build())
    return base.to_bytes(8, "big") + data[8:]


def test_an_event() -> None:
    seen = head_of(Record())

    assert seen.committed_at == datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
    assert (seen.position, seen.version, seen.generation, seen.epoch) == (17, 3, 1, UUID(int=1))
    assert (seen.type, seen.stream_id, seen.event_id) == ("OrderCreated", "order-1", "e-1")


def test_what_no_relay_wrote_is_not_believed() -> None:
    odd = [
        ("ce_time", b"yesterday"),
        ("millrace_position", b"-1"),
        ("millrace_epoch", b"x"),
        ("ce_type", b"\xff"),
    ]
    seen = head_of(Record(odd))

    assert (seen.committed_at, seen.position, seen.epoch, seen.type) == (None, None, None, None)
    assert seen.timestamp == 1_700_000_000


def test_a_time_without_an_offset_is_no_time() -> None:
    assert head_of(Record([("ce_time", b"2026-11-23T12:00:00")])).committed_at is None


def test_the_record_at_an_offset_stands_in_the_middle_of_its_batch() -> None:
    assert [one.offset for one in read_heads(batch(10, 5), 12)] == [12, 13, 14]


def test_records_at_several_offsets_are_read_in_one_go() -> None:
    found = heads_at(batch(10, 3) + batch(20, 3), [11, 12, 14, 21, 30])

    # There is no record at 14: it was compacted away, or is a transaction's mark. Whoever is there reads 20 next.
    assert {offset: one.offset for offset, one in found.items()} == {11: 11, 12: 12, 14: 20, 21: 21}


def test_a_batch_that_was_cut_off_is_left_out() -> None:
    whole = batch(10, 5)

    assert [one.offset for one in read_heads(whole + batch(15, 5)[:-3], 13)] == [13, 14]
    assert read_heads(whole[:-3], 10) == []
