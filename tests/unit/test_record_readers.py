"""The fast reader takes nothing that the careful one would not, and reads it alike."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.domain.events import RecordedEvent
from millrace.kafka.record import MalformedRecord, ReadEvent, read_event
from millrace.kafka.record.fast import read_fast
from millrace.kafka.record.reading import read_carefully
from tests.unit.test_record import EPOCH, EVENTS, FORMATS, REGISTRY, Record, record

ODD_VALUES = [
    *(None, b"", b"\xff", b"\0", b"a\0b", b"a b", b"Painted/3", b"Painted/03", b"Painted/3/3", "ä".encode()),
    *(b"Painted", b"x.Painted", b".Painted", b"Painted.", b"/Painted/3", b"x:/Painted/3", b"x:/Sprayed/3"),
    *(
        b"{}",
        b"[]",
        b"null",
        b'"a"',
        b'{"correlation_id":"c"}',
        b'{"correlation_id":""}',
        b'{"correlation_id":1}',
    ),
    *(b'{"correlation_id":"c","actor":"\\u0000"}', b'{"correlation_id":"c","actor":"\\\\u0000"}'),
    *(b'{"correlation_id":"c","actor":1}', b'{"correlation_id":"c","traceparent":null,"newer":1}'),
    *(
        b"0",
        b"00",
        b"07",
        b"+1",
        b"-1",
        b" 1",
        b"1_0",
        "٣".encode(),
        *(b"9" * n for n in (9, 10, 18, 19, 20)),
    ),
    *(b"2024-02-29", b"2024-02-29T10:30:05", b"2024-02-29T10:30:05Z", b"2024-02-29T10:30:05+02:00"),
    *(
        str(EPOCH).upper().encode(),
        EPOCH.hex.encode(),
        f"{{{EPOCH}}}".encode(),
        b"g" + str(EPOCH)[1:].encode(),
    ),
]


NAMES = [(format, name) for format in FORMATS for name, _ in record(format=format).headers]


def known(format: int) -> Record:
    """A record of which the fast reader knows all that is shared."""
    raw = record(format=format)
    read_event(raw, REGISTRY)
    return raw


def stored_metadata(read: ReadEvent | None) -> bytes | None:
    """Equal events may differ in it."""
    return read and read.event.stored_metadata


def both(headers: Mapping[str, bytes], raw: Record) -> tuple[ReadEvent | None, ReadEvent | None]:
    """What the fast reader and what the careful one makes of it."""
    try:
        careful = read_carefully(headers, raw, REGISTRY)
    except MalformedRecord:
        careful = None
    return read_fast(headers, raw, REGISTRY), careful


@pytest.mark.parametrize("value", ODD_VALUES)
@pytest.mark.parametrize(("format", "name"), NAMES)
def test_the_fast_reader_takes_nothing_that_the_careful_one_would_not(
    format: int, name: str, value: bytes | None
) -> None:
    raw = known(format)
    headers = dict(raw.headers)
    headers[name] = value  # type: ignore[assignment]  # Kafka knows headers without a value
    if name == "ce_subject":
        raw.key = value
    fast, careful = both(headers, raw)
    assert fast in (None, careful)
    if fast is not None:
        assert stored_metadata(fast) == stored_metadata(careful)


@pytest.mark.parametrize(("format", "name"), NAMES)
def test_the_fast_reader_takes_nothing_that_lacks_what_it_needs(format: int, name: str) -> None:
    raw = known(format)
    headers = {one: value for one, value in raw.headers if one != name}
    fast, careful = both(headers, raw)
    assert fast in (None, careful)
    if name in ("millrace_causation", "traceparent"):
        assert fast is not None
    elif (format, name) == (1, "ce_source"):
        assert careful is not None
        assert careful.source == ""
    else:
        assert careful is None


@pytest.mark.parametrize("format", FORMATS)
def test_what_the_relay_sends_is_read_the_fast_way(format: int) -> None:
    raw = known(format)
    fast, careful = both(dict(raw.headers), raw)
    assert fast == careful is not None
    assert fast is not None
    assert (fast.epoch, stored_metadata(fast)) == (EPOCH, stored_metadata(careful))


@given(EVENTS, st.sampled_from(sorted(FORMATS)), st.none() | st.just("00-cc-dd-01"))
def test_both_readers_agree(event: RecordedEvent, format: int, traceparent: str | None) -> None:
    raw = record(event, format=format, traceparent=traceparent)
    read_event(raw, REGISTRY)
    fast, careful = both(dict(raw.headers), raw)
    assert careful is not None
    assert fast in (None, careful)  # numbers near the largest are left to the careful reader
    assert fast is not None or event.position >= 10**18 or event.version >= 10**9
    assert fast is None or stored_metadata(fast) == stored_metadata(careful)
