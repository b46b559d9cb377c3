"""How far a copy of a read model is that is being built, and when it will be done."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from board.assemble import Assembler
from board.builds import fraction, measured_build
from board.declared import Declared, Projection
from board.document import Build
from board.observations import KafkaView, TopicView, Views
from tests.unit.board.views import AT, NOW, TOPIC, applied, copy, kafka, store, views

CONSUMER = "stock-service.shelf"
SHELF = Declared({"order": TOPIC}, (Projection("stock", "shelf", "read model", topics=(TOPIC,)),))


def seen(
    reached: dict[int, int], ends: dict[int, int], *, log: KafkaView | None = None, **more: Any
) -> Views:
    rows = [applied(n, offset, consumer=f"{CONSUMER}.next", **more) for n, offset in reached.items()]
    shelf = copy(1, "next", model="shelf", consumer=CONSUMER, built_at=None, building=True)
    return views(store("order"), store("stock", copies=[shelf], rebuilding=rows), log or kafka(ends))


def measured(looked: Views) -> float | None:
    stock = looked.stores["stock"]
    return fraction(measured_build(stock, stock.copies[0], looked, SHELF))


def test_a_copy_that_topics_feed_is_as_far_as_its_own_rows_say_of_all_partitions() -> None:
    assert measured(seen({0: 30, 1: 10}, {0: 100, 1: 60})) == 0.25


def test_what_retention_took_is_no_part_of_the_work() -> None:
    log = kafka({}, topics={TOPIC: TopicView(UUID(int=2), {0: 50, 1: 0}, {0: 100, 1: 0})})

    assert measured(seen({}, {}, log=log)) == 0.0
    assert measured(seen({0: 75}, {}, log=log)) == 0.5


def test_rows_of_another_topic_of_that_name_are_no_progress() -> None:
    assert measured(seen({0: 30}, {0: 100}, topic_id=UUID(int=9))) == 0.0


def test_of_a_log_that_nobody_can_see_nothing_is_said() -> None:
    looked = seen({0: 30}, {0: 100}, log=kafka({}, topics={}))

    assert measured(looked) is None


def test_its_rate_and_the_time_left_come_from_what_it_did_in_the_last_seconds() -> None:
    assembler, builds = Assembler(SHELF, datetime(2026, 1, 1, tzinfo=UTC)), list[Build]()
    for second in range(8):
        looked = seen({0: 100 * second}, {0: 2000})
        later = Views(
            at=AT + second, wall=NOW + timedelta(seconds=second), stores=looked.stores, kafka=looked.kafka,
            seen=looked.seen,
        )  # fmt: skip
        builds = assembler.board(later, took=0.01).builds

    [build] = builds
    assert (build.model, build.position, build.fraction, build.rate) == ("shelf", 700, 0.35, 100.0)
    assert build.eta is not None
    assert build.eta.low == build.eta.high == 13.0
