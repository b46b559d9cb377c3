"""Boards made up for tests of what shows them: four services, some of them in trouble."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from board.document import (
    Board,
    Build,
    Canary,
    Eta,
    EventTrace,
    Group,
    Headline,
    HeldEvent,
    Hop,
    Mark,
    Member,
    ParkedErrors,
    ParkedStream,
    Partition,
    Path,
    Relay,
    Source,
    Stage,
    StageKind,
    State,
    Store,
    Topic,
    TracedEvent,
)

AT = datetime(2026, 3, 2, 12, 3, 10, tzinfo=UTC)
PARTITIONS = 12
SERVICES = ("order", "inventory", "notification", "user")
FINE = "All read models are up to date; slowest: orders, 0.4 s behind."
ORDER = "order-0195c3a4-1f0e-7a52-9d6b-3a41c5f0aa17"


def partition(
    number: int, state: State = State.UP_TO_DATE, age: float | None = 0.0, **more: Any
) -> Partition:
    given: dict[str, Any] = {
        "text": state.value.lower().replace("_", " "),
        "pending": 0,
        "passed": 4000 + number,
    }
    given |= {"log_start": 0, "log_end": 4000 + number, "member": "inventory-service-1 on 10.0.0.7"}
    return Partition(partition=number, state=state, age=age, **(given | more))


def stage(
    kind: StageKind, name: str, state: State = State.UP_TO_DATE, age: float | None = 0.0, **more: Any
) -> Stage:
    given: dict[str, Any] = {"text": state.value.lower().replace("_", " "), "pending": 0, "rate_in": 42.0}
    return Stage(kind=kind, name=name, state=state, age=age, **(given | {"rate_out": 42.0} | more))


def own_path(service: str, model: str, **more: Any) -> Path:
    """A read model of the service's own store."""
    stages = [
        stage(StageKind.STORE, service, head=48_211),
        stage(StageKind.READ_MODEL, model, age=0.4, pending=1, slowest=True, head=48_210),
    ]
    given: dict[str, Any] = {
        "version": 1,
        "source": service,
        "topic": None,
        "group": None,
        "kind": "read model",
    }
    given |= {"state": State.UP_TO_DATE, "text": "up to date", "age": 0.4, "pending": 1, "stages": stages}
    return Path(id=f"{service}/{model}", service=service, projection=model, **(given | more))


def topic_path(service: str, projection: str, source: str, topic: str, group: str, **more: Any) -> Path:
    """What hears a topic of another service."""
    stages = [
        stage(StageKind.STORE, source, head=48_211),
        stage(StageKind.RELAY, source, head=48_211),
        stage(StageKind.TOPIC, topic, partitions=[partition(number) for number in range(PARTITIONS)]),
        stage(StageKind.CONSUMER, group, partitions=[partition(number) for number in range(PARTITIONS)]),
        stage(
            StageKind.READ_MODEL, projection, partitions=[partition(number) for number in range(PARTITIONS)]
        ),
    ]
    given: dict[str, Any] = {
        "version": None,
        "source": source,
        "topic": topic,
        "group": group,
        "kind": "reaction",
    }
    given |= {"state": State.UP_TO_DATE, "text": "up to date", "age": 0.0, "pending": 0, "stages": stages}
    return Path(id=f"{service}/{projection}", service=service, projection=projection, **(given | more))


def stuck(path: Path, waiting: float = 230.0, error: str = "KeyError 'carrier'") -> Path:
    """The same with partition 3 stuck on an event."""
    event = HeldEvent(
        type="OrderShipped",
        stream_id=ORDER,
        version=4,
        event_id="0195c3a4-1f0e-7a52-9d6b-3a41c5f0bb01",
        position=47_002,
        committed_at=AT - timedelta(seconds=waiting),
        waiting=waiting,
        attempts=7,
        error=error,
    )
    text = "stuck on OrderShipped (attempt 7)"
    held = {
        "state": State.STUCK,
        "age": waiting,
        "pending": 1209,
        "event": event,
        "since": waiting,
        "text": text,
    }

    def at(kind: StageKind, each: Stage) -> Stage:
        if each.kind is not kind:
            return each
        parts = [one.model_copy(update=held) if one.partition == 3 else one for one in each.partitions]
        return each.model_copy(update=held | {"slowest": True, "rate_out": 3.5, "partitions": parts})

    stages = [at(StageKind.CONSUMER, each) for each in path.stages]
    state = {
        "state": State.STUCK,
        "age": waiting,
        "pending": 1209,
        "net_rate": 38.5,
        "held_at": StageKind.CONSUMER,
    }
    return path.model_copy(update={**state, "stages": stages, "event": event, "text": text})


def usual_paths() -> list[Path]:
    return [
        own_path("order", "orders"),
        topic_path("order", "saga", "inventory", "inventory.events", "order-service.saga"),
        topic_path(
            "order",
            "catalogue",
            "inventory",
            "inventory.events",
            "order-service.catalogue",
            kind="read model",
            version=1,
        ),
        own_path("inventory", "stock"),
        topic_path("inventory", "reservations", "order", "orders.events", "inventory-service.stock"),
        topic_path("notification", "requests", "order", "orders.events", "notification-service.requests"),
        own_path("user", "users"),
    ]


def board(paths: Sequence[Path] | None = None, *, number: int = 1, at: datetime = AT, **more: Any) -> Board:
    """A board where all is well; `more` replaces parts of it."""
    servers = ("kafka", *(f"postgres-{name}" for name in SERVICES))
    given: dict[str, Any] = {
        "headline": Headline(text=FINE, state=State.UP_TO_DATE, as_of=at, age=0.2),
        "sources": [source(name, at) for name in servers],
        "relays": [relay(name, f"{name}.events") for name in SERVICES],
        "topics": [topic(name) for name in ("orders.events", "inventory.events")],
        "groups": [group("order-service.saga"), group("inventory-service.stock")],
        "parked": [], "parked_streams": [], "builds": [], "marks": [],
        "canaries": [canary("order", "orders", at=at), canary("order", "saga", "inventory.events", at=at)],
        "stores": [store(name) for name in SERVICES],
    }  # fmt: skip
    began = at - timedelta(seconds=number)
    return Board(
        at=at,
        started_at=began,
        number=number,
        took=0.034,
        paths=list(paths or usual_paths()),
        **(given | more),
    )


def in_trouble(*, number: int = 1, at: datetime = AT) -> Board:
    """A read model that is stuck, parked streams, a rebuild, a rebalance a while ago."""
    paths = usual_paths()
    paths[4] = stuck(paths[4])
    text = (
        "reservations is 3 min 50 s behind and growing (+38 events/s): partition 3 of orders.events is"
        " stuck on"
        " OrderShipped (attempt 7: KeyError 'carrier') for 3 min 50 s."
    )
    return board(
        paths,
        number=number,
        at=at,
        headline=Headline(text=text, state=State.STUCK, as_of=at, age=0.3),
        parked=[
            ParkedErrors(
                service="notification",
                consumer="notification-service.requests",
                error_class="ValidationError",
                streams=2,
                events=5,
                oldest=5400.0,
            )
        ],
        parked_streams=[
            ParkedStream(
                service="notification",
                consumer="notification-service.requests",
                stream_id=ORDER,
                events=3,
                oldest=5400.0,
                event_type="OrderConfirmed",
                error_class="ValidationError",
                error="lines: field required",
                attempts=5,
            )
        ],
        builds=[build(at)],
        marks=[
            Mark(
                at=at - timedelta(seconds=300),
                kind="rebalance",
                subject="inventory-service.stock",
                text="2 members, was 1",
            )
        ],
    )


BEHIND = (
    f"orders.events holds events that this store lacks (the first: position 1,205, OrderCreated of"
    f" {ORDER}): the store went"
    " back to position 1,204. Run `millrace restore order`"
)
MOVED = (
    "this store moved: it runs on another server or timeline than before, and has not been compared"
    " with its topic yet"
)


def store(service: str, refuses: str | None = None, since: float | None = None, **more: Any) -> Store:
    """One that takes commands, unless it `refuses` them: behind or moved."""
    topics = {"order": "orders.events", "user": "users.events", "notification": "notifications.events"}
    given: dict[str, Any] = {"topic": topics.get(service, f"{service}.events"), "lost_streams": 0}
    given["reason"] = {"behind": BEHIND, "moved": MOVED}.get(refuses or "", "")
    return Store.model_validate({"service": service, "refuses": refuses, "since": since, **given, **more})


def suspended(path: Path) -> Path:
    """The same while the order store refuses commands."""

    def at(each: Stage) -> Stage:
        held = {"state": State.SUSPENDED, "text": f"suspended: {BEHIND}", "since": 12.0, "rate_out": 0.0}
        held |= {"pending": 0, "age": 0.0}
        return each.model_copy(update=held) if each.kind in (StageKind.STORE, StageKind.RELAY) else each

    if path.source != "order":
        return path
    state = {"state": State.SUSPENDED, "text": "suspended: the event store refuses commands"}
    return path.model_copy(update={**state, "stages": [at(each) for each in path.stages]})


def went_back(*, at: datetime = AT, refuses: str = "behind") -> Board:
    """The order store came back from a backup; a consumer met a conflict and a foreign record."""
    stores = [store(name) for name in SERVICES[1:]]
    text = (
        "The order store went back: orders.events holds events that it lacks. Commands have been refused"
        " for 12 s."
        " Run `millrace restore order`. 1 stream is conflicting; 2 foreign records are parked."
    )
    parked = {"service": "inventory", "consumer": "inventory-service.stock", "oldest": 90.0}
    foreign = {
        "error_class": "ForeignRecord",
        "error": "the record's source is not order",
        "attempts": 1,
        "event_type": None,
    }
    conflict = {"error_class": "StreamConflict", "error": "version 4 is another event here", "attempts": 1}
    paths = [suspended(path) for path in usual_paths()]
    counts = {"parked_streams": 3, "conflicting_streams": 1, "foreign_records": 2}
    paths[4] = paths[4].model_copy(update=counts)
    return board(
        paths,
        at=at,
        headline=Headline(text=text, state=State.SUSPENDED, as_of=at, age=0.3),
        stores=[store("order", refuses, 12.0), *stores],
        parked=[
            ParkedErrors.model_validate(
                {**parked, "error_class": "StreamConflict", "streams": 1, "events": 2}
            ),
            ParkedErrors.model_validate(
                {**parked, "error_class": "ForeignRecord", "streams": 2, "events": 2}
            ),
        ],
        parked_streams=[
            ParkedStream.model_validate(
                {**parked, **conflict, "stream_id": ORDER, "events": 2, "event_type": "OrderShipped"}
            ),
            ParkedStream.model_validate(
                {**parked, **foreign, "stream_id": "foreign:orders.events/3/1042", "events": 1}
            ),
        ],
        marks=[
            Mark(
                at=at - timedelta(seconds=12),
                kind="store",
                subject="order",
                text=f"refuses commands: {BEHIND}",
            )
        ],
    )


def build(at: datetime) -> Build:
    given: dict[str, Any] = {
        "copy": "next",
        "building": True,
        "built": False,
        "position": 30_000,
        "fraction": 0.62,
    }
    return Build(
        service="order",
        model="orders",
        version=2,
        began_at=at,
        rate=21_000.0,
        eta=Eta(low=2.0, high=4.0),
        **given,
    )


def canary(service: str, projection: str, topic: str | None = None, at: datetime = AT, **more: Any) -> Canary:
    """One that arrived in 84 ms, unless `more` says otherwise."""
    given: dict[str, Any] = {"age": 3.0, "round_trip": 0.084, "waiting": None}
    return Canary(
        path=f"{service}/{projection}", service=service, projection=projection, topic=topic,
        sent_at=at - timedelta(seconds=3), **({"text": "arrived in 84 ms, the last one was sent 3.0 s"
            " ago"} | given | more),
    )  # fmt: skip


def source(name: str, at: datetime = AT, **more: Any) -> Source:
    given: dict[str, Any] = {
        "seen": True,
        "as_of": at,
        "age": 0.1,
        "round_trip": 0.004,
        "clock_offset": 0.0007,
    }
    return Source(name=name, **(given | {"clock_error": 0.002} | more))


def relay(service: str, topic: str) -> Relay:
    return Relay(
        service=service,
        topic=topic,
        leader=4711,
        standing_by=1,
        fencing_token=3,
        position=48_211,
        head=48_211,
        republish_until=None,
    )


def topic(name: str) -> Topic:
    ends = {number: 4000 + number for number in range(PARTITIONS)}
    starts = dict.fromkeys(ends, 0)
    return Topic(name=name, id=None, exists=True, log_starts=starts, log_ends=ends, rate=42.0, margin=4000)


def group(name: str, client: str = "worker-1") -> Group:
    member = Member(
        id=f"{client}-7f", client=client, host="/10.0.0.7", partitions={"orders.events": [0, 1, 2]}
    )
    return Group(name=name, service=None, state="Stable", members=[member], rebalances=2)


def trace(wanted: str, at: datetime = AT) -> EventTrace:
    """An order that was created and waits at the consumer."""
    committed = at - timedelta(seconds=231)
    hops = [
        Hop(
            kind=StageKind.STORE, name="order", path=None, state="passed", at=committed, waiting=None, text=""
        ),
        Hop(
            kind=StageKind.RELAY,
            name="order",
            path=None,
            state="passed",
            at=committed + timedelta(seconds=0.02),
            waiting=None,
            text="",
        ),
        Hop(
            kind=StageKind.CONSUMER,
            name="inventory-service.stock",
            path="inventory/reservations",
            state="waiting",
            at=None,
            waiting=230.0,
            text="behind an event that is stuck, in partition 3",
        ),
        Hop(
            kind=StageKind.READ_MODEL,
            name="reservations",
            path="inventory/reservations",
            state="unknown",
            at=None,
            waiting=None,
            text="",
        ),
    ]
    event = TracedEvent(
        service="order",
        event_id="0195c3a4-1f0e-7a52-9d6b-3a41c5f0bb01",
        stream_id=wanted,
        version=1,
        type="OrderCreated",
        position=47_002,
        committed_at=committed,
        correlation_id="c-1",
        topic="orders.events",
        partition=3,
        hops=hops,
    )
    return EventTrace(
        id=wanted, at=at, text="1 event: waiting at inventory-service.stock", complete=True, events=[event]
    )
