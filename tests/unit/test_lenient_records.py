"""A record whose header name is not UTF-8 costs nobody the records around it."""

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from millrace.domain.events import EventRegistry
from millrace.kafka.incoming import read_record
from millrace.kafka.lenient_records import ODD_NAME, LenientRecords
from millrace.kafka.record import MalformedRecord, read_event

NONE, GZIP = 0, 1


class OddName(str):
    """A name that is not UTF-8 on the wire."""

    def encode(self, *_: object) -> bytes:
        return b"caf\xe9"


class Found:
    """What a consumer gets of a record."""

    partition = 0

    def __init__(self, record: object) -> None:
        self.offset, self.key, self.value = record.offset, record.key, record.value  # type: ignore[attr-defined]
        self.headers = tuple(record.headers)  # type: ignore[attr-defined]


def batch(*names: str, compression: int) -> bytes:
    """One record per name, each with a header of that name."""
    builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, -1, 1 << 20)
    for offset, name in enumerate(names):
        builder.append(
            offset, 1_700_000_000_000 + offset, b"k%d" % offset, b"v%d" % offset, [(name, b"x"), ("b", None)]
        )
    return bytes(builder.build())


@pytest.mark.parametrize("compression", [NONE, GZIP])
def test_the_records_around_it_come_as_they_are(compression: int) -> None:
    data = batch("a", OddName("odd"), "c", compression=compression) + batch("d", compression=compression)
    records = LenientRecords(data)
    found = []
    while records.has_next():
        found += list(records.next_batch())
    assert [(one.key, one.value) for one in found] == [
        (b"k0", b"v0"),
        (b"k1", b"v1"),
        (b"k2", b"v2"),
        (b"k0", b"v0"),
    ]
    assert [one.headers[0][0] for one in found] == ["a", "caf\\xe9", "c", "d"]
    assert [one.timestamp % 10 for one in found] == [0, 1, 2, 0]
    assert [ODD_NAME in dict(one.headers) for one in found] == [False, True, False, False]


def test_a_batch_says_of_itself_what_it_said_before() -> None:
    records = LenientRecords(batch("a", "b", compression=NONE))
    one = records.next_batch()
    assert (one.next_offset, one.is_control_batch, one.is_transactional, one.producer_id) == (
        2,
        False,
        False,
        -1,
    )
    assert one.validate_crc()


def test_such_a_record_can_t_be_read_and_says_why() -> None:
    (record,) = list(LenientRecords(batch(OddName("odd"), compression=NONE)).next_batch())
    with pytest.raises(MalformedRecord, match="headers: a header name is not UTF-8"):
        read_event(Found(record), EventRegistry([]))
    item = read_record("t", Found(record), EventRegistry([]), 1)
    assert (item.stream_id, item.event) == ("k0", None)
