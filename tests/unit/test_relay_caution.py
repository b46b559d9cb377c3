"""What a leader remembers of a refusal: what to send next, how far the cursor may go, and how large a batch
may be."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,
    for_code,
)
from hypothesis import given
from hypothesis import strategies as st

from millrace.domain.events import DomainEvent, EventRegistry, RecordedEvent
from millrace.relay.refusal import Caution, RecordRefused, is_refusal

PARTITIONS = 3


class Counted(DomainEvent, version=1):
    n: int


REGISTRY = EventRegistry([Counted])


def event(position: int) -> RecordedEvent:
    data, metadata = orjson.dumps({"n": 1}), orjson.dumps({"correlation_id": "c"})
    moment = datetime(2026, 11, 28, tzinfo=UTC)
    row = (position, f"counter-{position}", 1, UUID(int=position), "Counted", 1, data, metadata, moment)
    return RecordedEvent.from_row(row, REGISTRY)


def refusal(
    positions: Sequence[int],
    *,
    acknowledged: Sequence[int] = (),
    size: int = 9000,
    error: KafkaError | None = None,
) -> RecordRefused:
    error = error or MessageSizeTooLargeError()
    events = [event(position) for position in positions]
    return RecordRefused("orders.events", events, error, size=size, acknowledged=acknowledged)


def positions(events: Sequence[RecordedEvent]) -> list[int]:
    return [one.position for one in events]


CHUNK = [event(position) for position in (3, 4, 6, 7, 8, 9)]


def test_without_a_refusal_a_chunk_is_sent_as_it_is() -> None:
    caution = Caution(1000)
    assert caution.next_of(CHUNK) == (CHUNK, False)
    caution.sent(CHUNK, singly=False)
    assert caution.passed(CHUNK, 0) == 9
    assert not caution.active


def test_of_a_refused_batch_each_record_is_sent_alone_and_nothing_behind_it() -> None:
    caution = Caution(1000)
    caution.refused(refusal([6, 8], acknowledged=[3, 9]))
    assert caution.passed(CHUNK, 0) == 3
    events, singly = caution.next_of(CHUNK[1:])
    assert (positions(events), singly) == ([4], False)  # what stands before it goes first
    caution.sent(events, singly=singly)
    assert caution.passed(CHUNK[1:], 3) == 4
    events, singly = caution.next_of(CHUNK[2:])
    assert (positions(events), singly) == ([6, 8], True)

    caution.refused(refusal([8], acknowledged=[6]))
    assert caution.passed(CHUNK[2:], 4) == 6
    events, singly = caution.next_of(CHUNK[3:])
    assert (positions(events), singly) == ([7], False)
    caution.sent(events, singly=singly)
    assert caution.passed(CHUNK[3:], 6) == 7

    events, singly = caution.next_of(CHUNK[4:])
    assert (positions(events), singly) == ([8], True)
    caution.sent(events, singly=singly)
    assert caution.passed(CHUNK[4:], 7) == 9, "9 was acknowledged before"
    assert not caution.active


def test_batches_get_smaller_when_records_were_refused_only_together() -> None:
    caution = Caution(500_000)
    caution.refused(refusal([3, 4], size=20_000))
    caution.sent(CHUNK[:2], singly=True)
    assert caution.batch_bytes == 10_000


@pytest.mark.parametrize(
    "refused", [refusal([4]), refusal([3, 4], error=InvalidTimestampError())], ids=["one record", "timestamp"]
)
def test_batches_stay_as_large_when_that_was_not_the_reason(refused: RecordRefused) -> None:
    caution = Caution(500_000)
    caution.refused(refusal([3, 4]))
    caution.refused(refused)
    caution.sent(CHUNK[1:2], singly=True)
    assert caution.batch_bytes == 500_000


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MessageSizeTooLargeError(), True),
        (RecordListTooLargeError(), True),
        (InvalidTimestampError(), True),
        (for_code(87)(), True),
        (UnknownError(), False),
        (KafkaConnectionError(), False),
        (None, False),
    ],
)
def test_only_the_brokers_judgement_of_the_records_is_a_refusal(
    error: KafkaError | None, *, is_one: bool
) -> None:
    assert is_refusal(error) is is_one


def test_a_refusal_names_the_record_the_reason_and_the_remedy() -> None:
    assert str(refusal([1234], size=2_000_000)) == (
        "position 1,234 (Counted) has 2,000,000 bytes, more than max.message.bytes: `kafka-configs.sh"
        " --alter --topic orders.events --add-config max.message.bytes=2001024`"
    )
    assert "segment.bytes: `" in str(refusal([1], error=RecordListTooLargeError()))
    assert "set this machine's clock" in str(refusal([1], error=InvalidTimestampError()))
    assert str(refusal([], error=for_code(87)())).startswith(
        "a lineage record: orders.events refuses it (INVALID_RECORD)"
    )


@pytest.mark.parametrize(
    "error", [MessageSizeTooLargeError(), RecordListTooLargeError(), InvalidTimestampError(), for_code(87)()]
)
def test_a_refusal_fits_into_what_the_board_shows_of_an_error(error: KafkaError) -> None:
    refused = RecordRefused("notifications.events", [event(123_456_789)], error, size=99_999_999)
    assert len(f"refused: {refused}") <= 200


@given(st.data())
def test_whatever_is_refused_each_event_arrives_once_and_in_the_order_of_its_partition(
    data: st.DataObject,
) -> None:
    """A broker that takes batches of up to three records, and refuses some records until somebody helps."""
    count = data.draw(st.integers(1, 25))
    refused = data.draw(st.sets(st.integers(1, count)))
    store, topic, cursor, caution = [event(n + 1) for n in range(count)], [], 0, Caution(1000)
    for _ in range(20 * count):
        if cursor == count:
            break
        chunk = store[cursor : cursor + 8]
        events, singly = caution.next_of(chunk)
        taken, found = _broker(events, refused, singly=singly)
        topic += taken
        if found is None:
            caution.sent(events, singly=singly)
        else:
            caution.refused(refusal(found, acknowledged=taken, error=MessageSizeTooLargeError()))
            if len(found) == 1:
                refused.discard(found[0])  # somebody raised the limit
        cursor = caution.passed(chunk, cursor)
    assert sorted(topic) == [one.position for one in store]
    for partition in range(PARTITIONS):
        mine = [position for position in topic if position % PARTITIONS == partition]
        assert mine == sorted(mine)


def _broker(
    events: Sequence[RecordedEvent], refused: set[int], *, singly: bool
) -> tuple[list[int], list[int] | None]:
    """What it takes of one chunk, and the first batch that it refuses. As Publisher: wave after wave."""
    batches: dict[int, list[list[int]]] = {}
    for one in positions(events):
        mine = batches.setdefault(one % PARTITIONS, [])
        if singly or not mine or len(mine[-1]) == 4:
            mine.append([])
        mine[-1].append(one)
    taken: list[int] = []
    for number in range(max(map(len, batches.values()), default=0)):
        wave = [some[number] for some in batches.values() if number < len(some)]
        bad = [batch for batch in wave if len(batch) > 3 or refused & set(batch)]
        taken += [position for batch in wave if batch not in bad for position in batch]
        if bad:
            return taken, min(bad)
    return taken, None
