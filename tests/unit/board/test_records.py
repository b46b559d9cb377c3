"""What the board reads of a record: its headers, and only if they are as a relay writes them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from board.kafka import _assigned
from board.observations import RecordHead
from board.records import Fetched, head_of, heads_at, read_heads

GOOD = [
    ("ce_time", b"2026-11-23T12:00:00.250000Z"),
    ("millrace_position", b"17"),
    ("millrace_epoch", str(UUID(int=1)).encode()),
    ("millrace_generation", b"1"),
    ("millrace_version", b"3"),
    ("ce_subject", b"order-1"),
    ("ce_id", b"e-1"),
    ("ce_type", b"dev.millrace.OrderCreated"),
]


@dataclass
class Record:
    headers: list[tuple[str, bytes]] = field(default_factory=lambda: list(GOOD))
    offset: int = 4
    timestamp: int = 1_700_000_000_000


def batch(base: int, count: int, compression: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 20)
    for n in range(count):
        builder.append(n, 1_700_000_000_000, b"key", b"a payload", GOOD)
    data = bytes(builder.build())
    return base.to_bytes(8, "big") + data[8:]


def heads(data: bytes, offset: int) -> list[RecordHead]:
    return read_heads(Fetched(data), offset)[0]


def test_an_event() -> None:
    seen = head_of(Record())

    assert seen.committed_at == datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
    assert (seen.position, seen.version, seen.generation, seen.epoch) == (17, 3, 1, UUID(int=1))
    assert (seen.type, seen.stream_id, seen.event_id) == ("OrderCreated", "order-1", "e-1")


def test_an_event_of_format_1_has_its_bare_type() -> None:
    assert head_of(Record([("ce_type", b"OrderCreated")])).type == "OrderCreated"


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
    assert [one.offset for one in heads(batch(10, 5), 12)] == [12, 13, 14]


def test_records_at_several_offsets_are_read_in_one_go() -> None:
    found = heads_at(Fetched(batch(10, 3) + batch(20, 3)), [11, 12, 14, 21, 30]).found

    # There is no record at 14: it was compacted away, or is a transaction's mark. Anyone who is there reads
    # 20 next.
    assert {offset: one.offset for offset, one in found.items()} == {11: 11, 12: 12, 14: 20, 21: 21}


def test_a_batch_that_was_cut_off_is_left_out() -> None:
    whole = batch(10, 5)

    assert [one.offset for one in heads(whole + batch(15, 5)[:-3], 13)] == [13, 14]
    assert heads(whole[:-3], 10) == []


def test_a_batch_that_nobody_can_decode_costs_its_own_records_and_no_others() -> None:
    broken = bytearray(batch(20, 3, compression=1))
    broken[70:] = b"\0" * len(broken[70:])

    found = heads_at(Fetched(batch(10, 2) + bytes(broken) + batch(30, 2)), [11, 20, 22, 30]).found

    assert {offset: one.offset for offset, one in found.items()} == {11: 11, 20: 20, 22: 22, 30: 30}
    assert [found[offset].timestamp is None for offset in (11, 20, 22, 30)] == [False, True, True, False]


def test_a_time_that_is_no_time_anywhere_is_not_believed() -> None:
    assert head_of(Record([("ce_time", b"0001-01-01T00:00:00+23:00")])).committed_at is None
    assert head_of(Record([("ce_time", b"9999-12-31T23:59:59-23:00")])).committed_at is None


def test_a_member_whose_assignment_is_not_of_this_protocol_is_assigned_nothing() -> None:
    assert _assigned(b"\xff\x00\x07nonsense") == frozenset()


def test_what_is_cut_off_says_how_far_it_is_known() -> None:
    assert heads_at(Fetched(batch(10, 3) + batch(13, 3)[:-3]), [20]) == ({}, 13)
    assert heads_at(Fetched(b""), [20]) == ({}, 0)
