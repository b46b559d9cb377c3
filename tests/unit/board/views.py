"""Views as the collector makes them, for a service that owns a topic and another one that hears it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from board.declared import Declared, Projection
from board.observations import (
    AppliedRow,
    CheckpointRow,
    CopyRow,
    CursorRow,
    EventRef,
    GroupView,
    KafkaView,
    MemberView,
    RecordHead,
    Seen,
    StoreView,
    TopicView,
    Views,
)

AT = 1000.0  # the board's monotonic clock
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # its wall clock
EPOCH, TOPIC_ID = UUID(int=1), UUID(int=2)
TOPIC, GROUP = "orders.events", "stock-service.saga"

DECLARED = Declared(
    {"order": TOPIC},
    (
        Projection("order", "orders", "read model"),
        Projection("stock", "saga", "reaction", GROUP, (TOPIC,)),
    ),
)


def given(usual: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return usual | more


def event(position: int, age: float, **more: Any) -> EventRef:
    moment = NOW - timedelta(seconds=age)
    return EventRef(
        **given(
            {
                "position": position,
                "stream_id": "order-1",
                "version": 1,
                "event_id": "e",
                "type": "OrderCreated",
                "recorded_at": moment,
                "age": age,
            },
            more,
        )
    )


def head(offset: int, age: float, **more: Any) -> RecordHead:
    moment = NOW - timedelta(seconds=age)
    return RecordHead(
        **given(
            {
                "offset": offset,
                "timestamp": moment.timestamp(),
                "committed_at": moment,
                "position": offset + 1,
                "epoch": EPOCH,
                "generation": 1,
                "type": "OrderCreated",
                "stream_id": "order-1",
            },
            more,
        )
    )


def cursor(position: int, pending: int = 0, oldest: EventRef | None = None, **more: Any) -> CursorRow:
    return CursorRow(
        **given(
            {
                "topic": TOPIC,
                "generation": 1,
                "position": position,
                "fencing_token": 1,
                "topic_id": TOPIC_ID,
                "end_offsets": {},
                "republish_until": 0,
                "pending": pending,
                "oldest": oldest,
                "leader": 7,
            },
            more,
        )
    )


def checkpoint(position: int, pending: int = 0, oldest: EventRef | None = None) -> CheckpointRow:
    return CheckpointRow("orders", 1, position, pending, oldest)


def copy(version: int = 1, which: str = "live", **more: Any) -> CopyRow:
    return CopyRow(
        **given(
            {
                "model": "orders",
                "version": version,
                "copy": which,
                "consumer": None,
                "began_at": NOW,
                "built_at": NOW,
                "since": NOW,
                "position": 0,
                "building": False,
            },
            more,
        )
    )


def applied(partition: int, next_offset: int, **more: Any) -> AppliedRow:
    return AppliedRow(
        **given(
            {
                "consumer": GROUP,
                "epoch": EPOCH,
                "topic": TOPIC,
                "generation": 1,
                "partition": partition,
                "position": next_offset,
                "next_offset": next_offset,
                "topic_id": TOPIC_ID,
            },
            more,
        )
    )


def store(service: str, head: int = 10, **more: Any) -> StoreView:
    return StoreView(
        **given(
            {
                "service": service,
                "at": AT,
                "clock": NOW,
                "round_trip": 0.002,
                "head": head,
                "head_at": NOW,
                "first": event(1, 100.0) if head else None,
                "epoch": EPOCH,
                "sessions": 3,
            },
            more,
        )
    )


def group(
    commits: Mapping[int, int], state: str = "Stable", *, members: Sequence[int] | None = None
) -> GroupView:
    """`members`: the partitions that one member has; None: all of those that were committed."""
    mine = frozenset((TOPIC, n) for n in (commits if members is None else members))
    people = [MemberView("m-1", "client", "10.0.0.1", mine)] if mine else []
    return GroupView(state, people, {(TOPIC, n): offset for n, offset in commits.items()})


def kafka(ends: Mapping[int, int], heads: Sequence[tuple[int, RecordHead]] = (), **more: Any) -> KafkaView:
    """`heads`: partition and record."""
    return KafkaView(**given({
        "at": AT, "round_trip": 0.001,
        "topics": {TOPIC: TopicView(TOPIC_ID, dict.fromkeys(ends, 0), ends)},
        "groups": {}, "heads": {(TOPIC, n, one.offset): one for n, one in heads},
    }, more))  # fmt: skip


def views(
    order: StoreView | None, stock: StoreView | None, seen_kafka: KafkaView | None, **more: Any
) -> Views:
    """All fresh, unless `unseen` names sources."""
    unseen = more.pop("unseen", ())
    stores = {one.service: one for one in (order, stock) if one is not None}
    seen = {
        name: Seen(name not in unseen, "gone" if name in unseen else "", AT - 24 if name in unseen else AT)
        for name in ("kafka", "postgres-order", "postgres-stock")
    }
    return Views(**given({"at": AT, "wall": NOW, "stores": stores, "kafka": seen_kafka, "seen": seen}, more))
