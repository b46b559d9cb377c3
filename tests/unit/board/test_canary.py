"""Canaries on the board: what waits and for how long, what arrived and how long it took."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from board.canary import Question, canaries, questions
from board.document import Canary
from board.emails import email_path
from board.observations import PassedCanary, SentCanary, StoreView, Views
from board.path import measure
from millrace.canary.streams import canary_streams
from tests.unit.board import views as some

STREAMS = canary_streams(some.TOPIC, 2)
ENDS = {0: 20, 1: 20}


def sent(partition: int, position: int, age: float, version: int = 1) -> SentCanary:
    return SentCanary(STREAMS[partition], version, position, some.NOW - timedelta(seconds=age))


def passed(
    partition: int, age: float, took: float, *, listener: str = some.GROUP, version: int = 1
) -> PassedCanary:
    at = some.NOW - timedelta(seconds=age)
    return PassedCanary(listener, STREAMS[partition], version, at, at + timedelta(seconds=took))


def order(*canaries: SentCanary, **more: Any) -> StoreView:
    usual: dict[str, Any] = {
        "cursors": [some.cursor(10)],
        "checkpoints": [some.checkpoint(10)],
        "copies": [some.copy()],
    }
    return some.store("order", sent_canaries=canaries, **(usual | more))


def stock(*rows: PassedCanary, places: Sequence[int] = (10, 10), **more: Any) -> StoreView:
    """`places`: the position that was passed in each partition."""
    applied = [some.applied(n, 20, position=position) for n, position in enumerate(places)]
    return some.store("stock", passed_canaries=rows, applied=applied, **more)


def seen(source: StoreView, reader: StoreView, **more: Any) -> Views:
    return some.views(source, reader, some.kafka(ENDS), **more)


def told(views: Views, projection: str = "saga") -> Canary:
    return next(one for one in canaries(views, measure(views, some.DECLARED)) if one.projection == projection)


def test_one_that_arrived_tells_how_long_it_took() -> None:
    one = told(
        seen(order(sent(0, 8, 7.0), sent(1, 9, 2.0)), stock(passed(0, 7.0, 0.2), passed(1, 2.0, 0.084)))
    )

    assert (one.path, one.topic) == ("stock/saga", some.TOPIC)
    assert (round(one.round_trip or 0, 3), one.waiting, one.age) == (0.084, None, 2.0)
    assert one.text == "arrived in 84 ms, the last one was sent 2.0 s ago"


def test_no_canary_is_waited_for_where_e_mails_go_out() -> None:
    views = seen(order(sent(0, 8, 7.0)), stock(passed(0, 7.0, 0.2)))
    paths = [*measure(views, some.DECLARED), email_path("order", views)]

    assert {path.projection.name for path in paths} - {one.projection for one in canaries(views, paths)} == {
        "e-mails"
    }


def test_the_clocks_of_the_servers_are_subtracted() -> None:
    """The reader's clock is half a second ahead, the source's a tenth of a second behind."""
    clocks = {"order": (-0.1, 0.001), "stock": (0.5, 0.001)}
    one = told(seen(order(sent(0, 8, 7.0)), stock(passed(0, 7.0, 0.7)), clocks=clocks))

    assert round(one.round_trip or 0, 3) == 0.1


def test_a_clock_that_is_measured_wrong_makes_no_round_trip_negative() -> None:
    clocks = {"order": (0.0, 0.02), "stock": (0.01, 0.02)}
    assert told(seen(order(sent(0, 8, 7.0)), stock(passed(0, 7.0, 0.005)), clocks=clocks)).round_trip == 0.0


def test_one_that_is_under_way_hides_the_last_round_trip_only_once_it_takes_longer() -> None:
    arrived = passed(0, 5.0, 0.2)
    young = told(seen(order(sent(0, 8, 5.0), sent(1, 11, 0.1)), stock(arrived)))
    assert (young.round_trip, young.waiting) == (0.2, 0.1)

    old = told(seen(order(sent(0, 8, 5.0), sent(1, 11, 0.3)), stock(arrived)))
    assert (old.round_trip, old.waiting, old.text) == (None, 0.3, "waits for 0.3 s")


def test_the_oldest_that_waits_counts_and_one_stopped_partition_is_enough() -> None:
    views = seen(
        order(sent(0, 30, 5.0, version=9), sent(0, 12, 230.0, version=7), sent(1, 31, 1.0)),
        stock(passed(0, 290.0, 0.1, version=6), passed(1, 1.0, 0.1), places=(11, 31)),
    )
    one = told(views)

    assert (one.waiting, one.round_trip, one.age) == (230.0, None, 1.0)
    assert one.sent_at == some.NOW - timedelta(seconds=230)
    assert one.text == "waits for 3 min 50 s"


def test_canaries_of_a_clock_that_was_ahead_hide_no_later_one() -> None:
    """The clock was set back by two hours after the first one."""
    one = told(
        seen(
            order(sent(0, 8, -7200.0), sent(1, 9, 2.0)), stock(passed(0, -7200.0, 0.1), passed(1, 2.0, 0.084))
        )
    )
    assert one.age == 2.0

    waits = told(seen(order(sent(0, 30, -7200.0)), stock()))
    assert (waits.age, waits.waiting) == (None, None)
    assert waits.text == "clocks disagree: recorded 2 h in the future"


def test_what_the_positions_say_was_passed_does_not_wait_for_a_row() -> None:
    """A read model that was just built has positions, and wrote no rows while it was built."""
    one = told(seen(order(sent(0, 8, 5.0), sent(1, 9, 2.0)), stock()))

    assert (one.round_trip, one.waiting, one.text) == (None, None, "arrived, nobody knows when")


def test_positions_of_another_store_say_nothing() -> None:
    another = [some.applied(n, 20, position=99, epoch=some.TOPIC_ID) for n in (0, 1)]
    reader = some.store("stock", applied=another)

    assert told(seen(order(sent(0, 8, 5.0)), reader)).waiting == 5.0


def test_a_read_model_of_the_own_store_has_one_clock_and_its_checkpoint() -> None:
    arrived = passed(0, 5.0, 0.02, listener="orders_v1")
    views = seen(order(sent(0, 8, 5.0), passed_canaries=[arrived]), stock(), clocks={"order": (3.0, 0.0)})
    assert (told(views, "orders").round_trip, told(views, "orders").waiting) == (0.02, None)

    behind = seen(order(sent(0, 11, 5.0), passed_canaries=[arrived]), stock())
    assert told(behind, "orders").waiting == 5.0


def test_nothing_is_said_of_what_nobody_sees() -> None:
    for source in ("postgres-order", "postgres-stock"):
        one = told(seen(order(sent(0, 12, 5.0)), stock(passed(1, 9.0, 0.1)), unseen=(source,)))
        assert (one.round_trip, one.waiting, one.age, one.text) == (None, None, None, "can't see")


def test_of_a_service_that_sends_none_there_is_none() -> None:
    views = seen(order(), stock())
    assert canaries(views, measure(views, some.DECLARED)) == []


def test_the_next_one_after_the_last_that_was_passed_is_asked_for_and_the_first_of_all() -> None:
    source = order(sent(0, 30, 5.0, version=9), sent(1, 31, 1.0, version=4))
    reader = stock(passed(0, 290.0, 0.1, version=6), passed(1, 1.0, 0.1, version=4))

    asked = questions({"order": source, "stock": reader}, some.kafka(ENDS), some.DECLARED)

    expected = [(STREAMS[0], 1), (STREAMS[1], 1), (STREAMS[0], 7)]
    assert asked == {"order": Question(STREAMS, tuple(sorted(expected)))}


def test_before_the_first_look_the_streams_of_the_declared_partitions_are_asked_for() -> None:
    assert questions({}, None, some.DECLARED) == {"order": Question(canary_streams("orders.events", 12))}
