"""What one store says by itself: its head, its relay, its own read models. Why the ages are exact:
path.py."""

from dataclasses import replace

from board.clocks import disagreement
from board.declared import Projection
from board.document import HeldEvent, StageKind
from board.measures import Measure, MeasuredStage, in_sight, unseen
from board.observations import CopyRow, CursorRow, EventRef, StoreView, Views
from board.stalls import RETRYING, explained, own_stall


def store_stage(service: str, views: Views) -> MeasuredStage:
    seen, problem, store = in_sight(views, f"postgres-{service}"), unseen(views, f"postgres-{service}"), None
    store = views.stores.get(service)
    head = store.head if store else None
    total = Measure(
        at=store.at if store else None,
        visible=seen,
        arrived=head,
        passed=head,
        pending=0,
        age=0.0,
        alive=True,
        refusal=_refusal(store),
    )
    return MeasuredStage(f"store {service}", StageKind.STORE, service, total, problem=problem)


def relay_stage(service: str, topic: str, views: Views) -> MeasuredStage:
    source = f"postgres-{service}"
    store = views.stores.get(service)
    total = Measure(visible=False)
    if store is not None:
        cursor = newest_cursor(store, topic)
        stall = own_stall(store, f"relay {topic}")
        if stall is not None and cursor is not None and stall.position < cursor.position:
            stall = None  # it got on since
        # Who failed gives the lock back until the next attempt.
        leads = cursor is not None and cursor.leader is not None
        leads = leads or (stall is not None and abs(stall.last) < RETRYING)
        total = _behind(
            store,
            views,
            source,
            cursor.position if cursor else None,
            cursor.pending if cursor else None,
            cursor.oldest if cursor else None,
            alive=leads,
        )
        # Commands that wait for the append lock are no reason not to send what was appended.
        refusal = "" if store.refusal and store.refusal.held else _refusal(store)
        total = replace(explained(total, stall), refusal=refusal)
    return MeasuredStage(f"relay {service}", StageKind.RELAY, service, total, problem=unseen(views, source))


def _refusal(store: StoreView | None) -> str:
    return store.refusal.reason if store and store.refusal else ""


def newest_cursor(store: StoreView, topic: str) -> CursorRow | None:
    """The relay's row for the newest generation of its topic."""
    rows = [row for row in store.cursors if row.topic == topic]
    return max(rows, key=lambda row: row.generation, default=None)


def projector_stage(projection: Projection, version: int | None, views: Views) -> MeasuredStage:
    source = f"postgres-{projection.service}"
    store = views.stores.get(projection.service)
    total = Measure(visible=False)
    if store is not None:
        wanted = (projection.name, version)
        row = next((one for one in store.checkpoints if (one.read_model, one.version) == wanted), None)
        built = next(
            (one for one in store.copies if (one.model, one.version, one.copy) == (*wanted, "next")), None
        )
        if row is None and built is not None:
            total = _first_build(store, built, seen=in_sight(views, source))
        else:
            total = _behind(
                store,
                views,
                source,
                row.position if row else None,
                row.pending if row else None,
                row.oldest if row else None,
                alive=store.sessions > 0,
            )
            total = replace(total, ended=store.sessions == 0)
            stall = own_stall(store, f"projector {projection.name} v{version}")
            if stall is not None and stall.position > (row.position if row else 0):
                total = explained(total, stall)
    key = f"read model {projection.service}/{projection.name}"
    return MeasuredStage(key, StageKind.READ_MODEL, projection.name, total, problem=unseen(views, source))


def _first_build(store: StoreView, copy: CopyRow, *, seen: bool) -> Measure:
    """A read model that is built before it is read for the first time; several processes may be at different
    places."""
    pending = max(0, store.head - copy.position)
    return Measure(
        at=store.at,
        visible=seen,
        arrived=store.head,
        passed=copy.position,
        pending=pending,
        age=None if pending else 0.0,
        alive=copy.building,
    )


def _behind(
    store: StoreView, views: Views, source: str, position: int | None, pending: int | None,
    oldest: EventRef | None, *, alive: bool,
) -> Measure:  # fmt: skip
    """Somebody who follows the store, at `position`; None: who has not begun."""
    if position is None:
        oldest, pending = store.first, store.head
    fresh = in_sight(views, source)
    since = views.at - store.at if fresh else 0.0  # a view that got old is left as it was
    event = None
    if oldest is not None:
        event = HeldEvent(
            type=oldest.type, stream_id=oldest.stream_id, version=oldest.version, event_id=oldest.event_id,
            position=oldest.position, committed_at=oldest.recorded_at,
            waiting=None if oldest.age is None else oldest.age + since,
            error=disagreement(oldest.recorded_at, store.clock),
        )  # fmt: skip
    return Measure(
        at=store.at,
        visible=fresh,
        arrived=store.head,
        passed=position or 0,
        pending=pending,
        age=event.waiting if event else 0.0,
        started=position is not None,
        alive=alive,
        event=event,
    )


def consumer_of(projection: Projection, store: StoreView | None) -> tuple[int | None, str | None]:
    """The version and the consumer of the copy that is live (else of the newest one); None while nobody
    knows."""
    if projection.kind == "reaction":
        return None, projection.group
    copies = [one for one in store.copies if one.model == projection.name] if store else []
    best = max(copies, key=lambda one: (one.copy == "live", one.version), default=None)
    return (best.version, best.consumer) if best else (None, projection.group)
