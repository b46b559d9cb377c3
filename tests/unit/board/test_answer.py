"""One sentence says how far behind the truth the read models are, where, and why."""

from datetime import UTC, datetime, timedelta
from typing import Any

from infra.board.answer import answer
from infra.board.document import Eta, HeldEvent, Partition, Path, Source, Stage, StageKind, State

NOW = datetime(2026, 11, 23, 12, 3, 34, tzinfo=UTC)


def source(name: str, *, seen: bool = True, age: float = 0.0) -> Source:
    return Source(name=name, seen=seen, as_of=NOW - timedelta(seconds=age), age=age)


def partition(number: int, state: State, **more: Any) -> Partition:
    return Partition(**{"partition": number, "state": state, "text": "", "age": 0.0, "pending": 0} | more)


def stage(kind: StageKind, name: str, state: State = State.UP_TO_DATE, **more: Any) -> Stage:
    return Stage(**{"kind": kind, "name": name, "state": state, "text": "", "age": 0.0, "pending": 0} | more)


def path(projection: str, state: State = State.UP_TO_DATE, *stages: Stage, **more: Any) -> Path:
    given = {
        "id": f"order/{projection}", "service": "order", "projection": projection, "kind": "read model", "version": 1,
        "source": "order", "topic": None, "group": None, "state": state, "text": "", "age": 0.0, "pending": 0,
        "stages": list(stages),
    }  # fmt: skip
    return Path(**given | more)


SEEN = [source("kafka"), source("postgres-order")]


def test_all_is_well() -> None:
    said = answer(NOW, [path("orders", age=0.4), path("stock", age=0.1)], SEEN)

    assert said.text == "All read models are up to date; slowest: orders, 0.4 s behind."
    assert said.state is State.UP_TO_DATE


def test_a_group_that_is_none_of_ours_is_no_news() -> None:
    left = path("report", State.STOPPED, age=9000.0, declared=False, parked_streams=1)

    assert answer(NOW, [path("orders"), left], SEEN).text == "All read models are up to date; nothing waits."


def test_nothing_waits_anywhere() -> None:
    assert answer(NOW, [path("orders")], SEEN).text == "All read models are up to date; nothing waits."


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

    said = answer(NOW, [path("stock", age=0.1), held], SEEN)

    assert said.text == (
        "orders is 4 min 12 s behind and falling behind (+38 events/s): partition 3 of orders.events is stuck on "
        "OrderShipped (attempt 7: KeyError 'carrier') for 3 min 50 s."
    )
    assert said.state is State.STUCK


def test_kafka_is_away() -> None:
    said = answer(NOW, [path("orders", State.CANT_SEE, age=0.1)], [source("kafka", seen=False, age=24.0)])

    assert said.text == "I can't see Kafka for 24 s; the numbers are from 12:03:10."
    assert (said.state, said.age) == (State.CANT_SEE, 24.0)


def test_what_else_is_wrong_is_said_while_a_database_is_away() -> None:
    relay = stage(StageKind.RELAY, "order", State.STOPPED, age=12.0, pending=3)
    paths = [
        path("users", State.CANT_SEE),
        path("saga", State.STOPPED, relay, age=12.0, topic="orders.events"),
    ]

    said = answer(NOW, paths, [source("postgres-user", seen=False, age=61.0)])

    assert said.text == (
        "I can't see the Postgres of user for 1 min 1 s; the numbers are from 12:02:33. Elsewhere, saga is 12 s behind: "
        "the relay of order does not run, 3 events wait for 12 s."
    )


def test_a_server_that_was_never_seen_says_why() -> None:
    never = Source(name="kafka", seen=False, as_of=None, age=None, problem="connection refused")

    assert answer(NOW, [], [never]).text == "I have not seen Kafka yet: connection refused."


def test_a_dead_consumer_is_named() -> None:
    partitions = [partition(n, State.STOPPED, age=65.0, pending=2) for n in range(2)]
    consumer = stage(StageKind.CONSUMER, "order-service.saga", State.STOPPED, age=65.0, partitions=partitions)
    held = path(
        "saga", State.STOPPED, consumer, age=65.0, topic="inventory.events", group="order-service.saga"
    )

    assert answer(NOW, [held], SEEN).text == (
        "saga is 1 min 5 s behind: order-service.saga is stopped: nobody reads inventory.events for 1 min 5 s."
    )


def test_catching_up_says_when_it_will_be_done() -> None:
    model = stage(StageKind.READ_MODEL, "orders", State.CATCHING_UP, age=30.0, pending=900)
    held = path("orders", State.CATCHING_UP, model, age=30.0, pending=900, eta=Eta(low=20, high=65))

    assert answer(NOW, [held], SEEN).text == (
        "orders is 30 s behind and catching up (done in 20 s to 1 min 5 s)."
    )


def test_the_others_are_counted_and_parked_streams_are_not_forgotten() -> None:
    slow = path("orders", State.FALLING_BEHIND, stage(StageKind.READ_MODEL, "orders", State.FALLING_BEHIND),
                age=30.0, net_rate=5.0)  # fmt: skip
    other = path("users", State.FALLING_BEHIND, age=7.0)

    assert answer(NOW, [other, slow, path("stock", parked_streams=2)], SEEN).text == (
        "orders is 30 s behind and falling behind (+5.0 events/s); 1 more is not up to date; 2 streams are parked."
    )


def test_a_new_board_says_that_it_does_not_know_yet() -> None:
    model = stage(StageKind.READ_MODEL, "orders", State.WARMING_UP, age=3.0, pending=1)

    assert answer(NOW, [path("orders", State.WARMING_UP, model, age=3.0)], SEEN).text == (
        "orders is 3.0 s behind: 1 event waits for 3.0 s, and I have not looked for long enough to say more."
    )


def test_an_offset_that_went_back_does_not_make_a_read_model_old() -> None:
    consumer = stage(StageKind.CONSUMER, "order-service.saga", State.MOVED_BACK, age=900.0, pending=9)
    moved = path("saga", State.MOVED_BACK, consumer, age=0.0, topic="inventory.events")

    assert answer(NOW, [moved], SEEN).text == (
        "saga is up to date: order-service.saga was moved back in inventory.events."
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

        assert answer(NOW, [held], SEEN).text == (
            "saga is 9.5 s behind: order-service.saga is stopped: nobody reads inventory.events for 9.5 s; "
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

    assert answer(NOW, [held], SEEN).text == (
        "saga is 12 s behind: 2 of 3 partitions of orders.events are stuck, the oldest on OrderCreated for 12 s."
    )


def test_a_service_that_does_not_run_is_named() -> None:
    model = stage(StageKind.READ_MODEL, "orders", State.STOPPED, age=9.5, pending=1)

    assert answer(NOW, [path("orders", State.STOPPED, model, age=9.5, pending=1)], SEEN).text == (
        "orders is 9.5 s behind: the order service does not run, 1 event waits for 9.5 s."
    )


def test_what_never_started_and_has_nothing_to_do_is_not_called_up_to_date() -> None:
    model = stage(StageKind.READ_MODEL, "orders", State.NOT_STARTED)

    assert answer(NOW, [path("orders", State.NOT_STARTED, model)], SEEN).text == "orders never started."


def test_a_reaction_that_is_slower_than_every_read_model_is_not_left_out() -> None:
    saga = path("saga", kind="reaction", age=5.2)

    assert answer(NOW, [path("orders", age=0.4), saga], SEEN).text == (
        "All read models are up to date; slowest: saga, 5.2 s behind."
    )


def test_a_topic_that_lost_something_is_the_news_and_not_that_nothing_waits() -> None:
    topic = stage(StageKind.TOPIC, "orders.events", State.LOSING_DATA)
    held = path("saga", State.LOSING_DATA, topic, topic="orders.events")

    assert answer(NOW, [held], SEEN).text == "orders.events has lost events that were sent to it."


def test_a_relay_that_fills_its_topic_again_is_at_it() -> None:
    relay = stage(StageKind.RELAY, "order", State.MOVED_BACK)
    held = path("saga", State.MOVED_BACK, relay, topic="orders.events")

    assert (
        answer(NOW, [held], SEEN).text == "saga is up to date: the relay of order fills orders.events again."
    )


def test_a_topic_that_does_not_exist_is_why_nobody_has_begun() -> None:
    stages = [
        stage(StageKind.TOPIC, "orders.events", State.NOT_STARTED),
        stage(StageKind.CONSUMER, "order-service.saga", State.NOT_STARTED),
    ]
    held = path("saga", State.NOT_STARTED, *stages, topic="orders.events")

    assert answer(NOW, [held], SEEN).text == "the topic orders.events does not exist."
