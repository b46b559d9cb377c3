"""One sentence says how far behind the truth the read models are, where, and why."""

from datetime import UTC, datetime, timedelta
from typing import Any

from board.document import Eta, HeldEvent, Partition, Path, Source, Stage, StageKind, State, Store
from board.headline import headline
from tests.unit import board_examples as examples

NOW = datetime(2026, 11, 23, 12, 3, 34, tzinfo=UTC)


def source(name: str, *, seen: bool = True, age: float = 0.0) -> Source:
    return Source(name=name, seen=seen, as_of=NOW - timedelta(seconds=age), age=age)


def partition(number: int, state: State, **more: Any) -> Partition:
    return Partition(**{"partition": number, "state": state, "text": "", "age": 0.0, "pending": 0} | more)


def stage(kind: StageKind, name: str, state: State = State.UP_TO_DATE, **more: Any) -> Stage:
    return Stage(**{"kind": kind, "name": name, "state": state, "text": "", "age": 0.0, "pending": 0} | more)


def path(projection: str, state: State = State.UP_TO_DATE, *stages: Stage, **more: Any) -> Path:
    given = {
        "id": f"order/{projection}",
        "service": "order",
        "projection": projection,
        "kind": "read model",
        "version": 1,
        "source": "order",
        "topic": None,
        "group": None,
        "state": state,
        "text": "",
        "age": 0.0,
        "pending": 0,
        "stages": list(stages),
    }
    return Path(**given | more)


SEEN = [source("kafka"), source("postgres-order")]


def test_all_is_well() -> None:
    said = headline(NOW, [path("orders", age=0.4), path("stock", age=0.1)], SEEN)

    assert said.text == "All read models are up to date; slowest: orders, 0.4 s behind."
    assert said.state is State.UP_TO_DATE


def test_a_group_that_is_none_of_ours_is_no_news() -> None:
    left = path("report", State.STOPPED, age=9000.0, declared=False, parked_streams=1)

    assert (
        headline(NOW, [path("orders"), left], SEEN).text == "All read models are up to date; nothing waits."
    )


def test_nothing_waits_anywhere() -> None:
    assert headline(NOW, [path("orders")], SEEN).text == "All read models are up to date; nothing waits."


def test_a_poisonous_event_holds_a_partition_up() -> None:
    event = HeldEvent(
        type="OrderShipped", stream_id="order-1", waiting=230.0, attempts=7, error="KeyError 'carrier'"
    )
    partitions = [
        partition(3, State.STUCK, age=252.0, event=event, since=230.0),
        partition(4, State.UP_TO_DATE),
    ]
    consumer = stage(StageKind.CONSUMER, "orders", State.STUCK, age=252.0, partitions=partitions, event=event)
    held = path(
        "orders", State.STUCK, consumer, age=252.0, net_rate=38.2, topic="orders.events", group="orders"
    )

    said = headline(NOW, [path("stock", age=0.1), held], SEEN)

    assert said.text == (
        "orders is 4 min 12 s behind and growing (+38 events/s): partition 3 of orders.events is stuck on "
        "OrderShipped (attempt 7: KeyError 'carrier') for 3 min 50 s."
    )
    assert said.state is State.STUCK


def test_kafka_is_away() -> None:
    said = headline(NOW, [path("orders", State.CANT_SEE, age=0.1)], [source("kafka", seen=False, age=24.0)])

    assert said.text == "Kafka unreachable for 24 s. Showing data from 12:03:10."
    assert (said.state, said.age) == (State.CANT_SEE, 24.0)


def test_what_else_is_wrong_is_said_while_a_database_is_away() -> None:
    relay = stage(StageKind.RELAY, "order", State.STOPPED, age=12.0, pending=3)
    paths = [
        path("users", State.CANT_SEE),
        path("saga", State.STOPPED, relay, age=12.0, topic="orders.events"),
    ]

    said = headline(NOW, paths, [source("postgres-user", seen=False, age=61.0)])

    assert said.text == (
        "Postgres of user unreachable for 1 min 1 s. Showing data from 12:02:33. Elsewhere, saga is 12 s"
        " behind: "
        "the relay of order does not run, 3 events wait for 12 s."
    )


def test_a_server_that_was_never_seen_says_why() -> None:
    never = Source(name="kafka", seen=False, as_of=None, age=None, problem="connection refused")

    assert headline(NOW, [], [never]).text == "Kafka not seen yet: connection refused."


def test_a_dead_consumer_is_named() -> None:
    partitions = [partition(n, State.STOPPED, age=65.0, pending=2) for n in range(2)]
    consumer = stage(StageKind.CONSUMER, "order-service.saga", State.STOPPED, age=65.0, partitions=partitions)
    held = path(
        "saga", State.STOPPED, consumer, age=65.0, topic="inventory.events", group="order-service.saga"
    )

    assert headline(NOW, [held], SEEN).text == (
        "saga is 1 min 5 s behind: order-service.saga is stopped: no consumer has read inventory.events for"
        " 1 min 5 s."
    )


def test_catching_up_says_when_it_will_be_done() -> None:
    model = stage(StageKind.READ_MODEL, "orders", State.CATCHING_UP, age=30.0, pending=900)
    held = path("orders", State.CATCHING_UP, model, age=30.0, pending=900, eta=Eta(low=20, high=65))

    assert headline(NOW, [held], SEEN).text == (
        "orders is 30 s behind and catching up (done in 20 s to 1 min 5 s)."
    )


def test_the_others_are_counted_and_parked_streams_are_not_forgotten() -> None:
    slow = path("orders", State.FALLING_BEHIND, stage(StageKind.READ_MODEL, "orders", State.FALLING_BEHIND),
                age=30.0, net_rate=5.0)  # fmt: skip
    other = path("users", State.FALLING_BEHIND, age=7.0)

    assert headline(NOW, [other, slow, path("stock", parked_streams=2)], SEEN).text == (
        "orders is 30 s behind and falling behind (+5.0 events/s); 1 more is not up to date; 2 streams are"
        " parked."
    )


def test_a_new_board_says_that_it_does_not_know_yet() -> None:
    model = stage(StageKind.READ_MODEL, "orders", State.WARMING_UP, age=3.0, pending=1)

    assert headline(NOW, [path("orders", State.WARMING_UP, model, age=3.0)], SEEN).text == (
        "orders is 3.0 s behind: 1 event waits for 3.0 s, and the board has not looked for long enough to"
        " say more."
    )


def test_an_offset_that_went_back_does_not_make_a_read_model_old() -> None:
    consumer = stage(StageKind.CONSUMER, "order-service.saga", State.MOVED_BACK, age=900.0, pending=9)
    moved = path("saga", State.MOVED_BACK, consumer, age=0.0, topic="inventory.events")

    assert headline(NOW, [moved], SEEN).text == (
        "saga: order-service.saga was moved back in inventory.events."
    )


def test_what_was_done_to_the_offsets_is_said_beside_what_is_worse() -> None:
    model = stage(StageKind.READ_MODEL, "saga", State.STOPPED, age=9.5, pending=9)
    for state, said in (
        (State.MOVED_BACK, "were moved back"),
        (State.AHEAD, "are beyond the end of the topic"),
    ):
        consumer = stage(StageKind.CONSUMER, "order-service.saga", state, age=900.0, pending=9)
        held = path("saga", State.STOPPED, consumer, model, age=9.5, topic="inventory.events",
                    group="order-service.saga")  # fmt: skip

        assert headline(NOW, [held], SEEN).text == (
            "saga is 9.5 s behind: order-service.saga is stopped: no consumer has read inventory.events for"
            " 9.5 s; "
            f"the offsets of order-service.saga {said}."
        )


def test_several_stuck_partitions_are_counted_and_the_oldest_event_is_named() -> None:
    event = HeldEvent(type="OrderCreated", stream_id="order-1", waiting=12.0)
    partitions = [
        partition(0, State.UP_TO_DATE),
        partition(1, State.STUCK, age=11.0, event=HeldEvent(type="OrderConfirmed", stream_id="order-2")),
        partition(2, State.STUCK, age=12.0, event=event, since=4.0),
    ]
    model = stage(StageKind.READ_MODEL, "saga", State.STUCK, age=12.0, partitions=partitions, event=event)
    held = path("saga", State.STUCK, model, age=12.0, topic="orders.events", group="saga")

    assert headline(NOW, [held], SEEN).text == (
        "saga is 12 s behind: 2 of 3 partitions of orders.events are stuck, the oldest on OrderCreated for"
        " 12 s."
    )


def test_a_service_that_does_not_run_is_named() -> None:
    model = stage(StageKind.READ_MODEL, "orders", State.STOPPED, age=9.5, pending=1, ended=True)

    assert headline(NOW, [path("orders", State.STOPPED, model, age=9.5, pending=1)], SEEN).text == (
        "orders is 9.5 s behind: the order service does not run, 1 event waits for 9.5 s."
    )


def test_what_never_started_and_has_nothing_to_do_is_not_called_up_to_date() -> None:
    model = stage(StageKind.READ_MODEL, "orders", State.NOT_STARTED)

    assert headline(NOW, [path("orders", State.NOT_STARTED, model)], SEEN).text == "orders never started."


def test_a_reaction_that_is_slower_than_every_read_model_is_not_left_out() -> None:
    saga = path("saga", kind="reaction", age=5.2)

    assert headline(NOW, [path("orders", age=0.4), saga], SEEN).text == (
        "All read models are up to date; slowest: saga, 5.2 s behind."
    )


def test_a_topic_that_lost_something_is_the_news_and_not_that_nothing_waits() -> None:
    topic = stage(StageKind.TOPIC, "orders.events", State.LOSING_DATA)
    held = path("saga", State.LOSING_DATA, topic, topic="orders.events")

    assert headline(NOW, [held], SEEN).text == "orders.events has lost events that were sent to it."


def test_a_topic_that_lost_something_is_named_with_its_cause_and_the_command_that_restores_it() -> None:
    """As its relay found it: with another number of partitions no command but this one helps."""
    cause = (
        "no topic: topic orders.events has 5 partitions, declared are 12: run `millrace replay republish"
        " order"
        " --recreate`"
    )
    relay = stage(
        StageKind.RELAY, "order", State.STUCK, event=HeldEvent(type=None, stream_id=None, error=cause)
    )
    topic = stage(StageKind.TOPIC, "orders.events", State.LOSING_DATA)
    paths = [path(name, State.LOSING_DATA, relay, topic, topic="orders.events") for name in ("saga", "stock")]

    assert headline(NOW, paths, SEEN).text == (
        "orders.events has lost events that were sent to it; 1 more is not up to date;"
        f" the relay of order sends nothing: {cause}."
    )


def test_a_relay_that_fills_its_topic_again_is_at_it() -> None:
    relay = stage(StageKind.RELAY, "order", State.MOVED_BACK)
    held = path("saga", State.MOVED_BACK, relay, topic="orders.events")

    assert headline(NOW, [held], SEEN).text == "saga: the relay of order fills orders.events again."


def test_a_topic_that_does_not_exist_is_why_nobody_has_begun() -> None:
    stages = [
        stage(StageKind.TOPIC, "orders.events", State.NOT_STARTED),
        stage(StageKind.CONSUMER, "order-service.saga", State.NOT_STARTED),
    ]
    held = path("saga", State.NOT_STARTED, *stages, topic="orders.events")

    assert headline(NOW, [held], SEEN).text == "the topic orders.events does not exist."


BACK = "The order store went back: orders.events holds events that it lacks."
SUSPENDED = path("orders", State.SUSPENDED, stage(StageKind.STORE, "order", State.SUSPENDED))


def behind(service: str = "order", since: float = 12.0) -> Store:
    return examples.store(service, "behind", since)


def test_a_store_that_went_back_comes_before_every_path() -> None:
    lost = path("saga", State.LOSING_DATA, stage(StageKind.TOPIC, "orders.events", State.LOSING_DATA))

    said = headline(NOW, [SUSPENDED, lost], SEEN, [behind(), examples.store("inventory")])

    assert said.text == (
        f"{BACK} Commands have been refused for 12 s. Run `millrace restore order`."
        " Elsewhere, orders.events has lost events that were sent to it."
    )
    assert said.state is State.SUSPENDED


def test_a_store_that_moved_waits_to_be_compared() -> None:
    moved = (
        "The order store moved to another server or timeline and has not been compared with"
        " orders.events yet."
    )

    for since, refused in ((12.0, "Commands have been refused for 12 s."), (0.0, "Commands are refused.")):
        said = headline(NOW, [SUSPENDED], SEEN, [examples.store("order", "moved", since)])
        assert said.text == f"{moved} {refused}"


def test_who_holds_the_append_lock_is_named() -> None:
    reason = "pid 4711 (login order_service, application psql) holds the append lock"

    said = headline(NOW, [SUSPENDED], SEEN, [examples.store("order", "held", 12.0, reason=reason)])

    assert said.text == f"Commands of the order store wait: {reason}, for 12 s."
    assert said.state is State.SUSPENDED


def test_of_several_stores_the_one_that_went_back_first_is_named() -> None:
    moved, later = examples.store("user", "moved", 900.0), behind("inventory", 3.0)

    assert headline(NOW, [SUSPENDED], SEEN, [later, behind()]).text == (
        f"{BACK} Commands have been refused for 12 s, and 1 more store refuses them. Run `millrace restore"
        f" order`."
    )
    assert headline(NOW, [SUSPENDED], SEEN, [moved, later, behind()]).text == (
        f"{BACK} Commands have been refused for 12 s, and 2 more stores refuse them. Run `millrace restore"
        f" order`."
    )


def test_a_store_that_went_back_and_a_server_that_is_away_are_both_said() -> None:
    away = [source("kafka", seen=False, age=24.0)]

    said = headline(NOW, [SUSPENDED, path("saga", State.CANT_SEE)], away, [behind()])

    assert said.text == (
        f"{BACK} Commands have been refused for 12 s. Run `millrace restore order`."
        " Kafka unreachable for 24 s. Showing data from 12:03:10."
    )
    assert said.state is State.SUSPENDED


def test_notes_follow_the_command_as_a_sentence() -> None:
    put_aside = path("stock", parked_streams=3, conflicting_streams=1)

    assert headline(NOW, [SUSPENDED, put_aside], SEEN, [behind()]).text.endswith(
        " Run `millrace restore order`. 1 stream is conflicting; 2 streams are parked."
    )


def test_conflicts_foreign_records_and_lost_events_are_named() -> None:
    put_aside = path("stock", parked_streams=6, conflicting_streams=2, foreign_records=1)
    stores = [examples.store("inventory", lost_streams=3), examples.store("user", lost_streams=1)]

    said = headline(NOW, [put_aside], SEEN, stores)

    assert said.text == (
        "All read models are up to date; nothing waits; 2 streams are conflicting; 1 foreign record is"
        " parked;"
        " 3 streams are parked; 3 streams of inventory hold effects of lost events;"
        " 1 stream of user holds effects of lost events."
    )
    assert said.state is State.UP_TO_DATE


def test_records_that_are_gone_come_with_their_remedy() -> None:
    late = stage(StageKind.CONSUMER, "inventory-service.stock", State.LOSING_DATA, age=9.0)
    held = path("reservations", State.LOSING_DATA, late, age=9.0, topic="orders.events", source="order")

    assert headline(NOW, [held], SEEN).text == (
        "inventory-service.stock has not seen records that are gone from orders.events, and later events"
        " wait there:"
        " recreate the topic from its store with `millrace replay republish order --recreate`."
    )
