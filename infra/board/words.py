"""Words and numbers as people read them."""

from infra.board.document import Eta, HeldEvent, StageKind, State

WORD = {
    State.UP_TO_DATE: "up to date",
    State.WARMING_UP: "warming up",
    State.CATCHING_UP: "catching up",
    State.REBALANCING: "rebalancing",
    State.MOVED_BACK: "moved back",
    State.FALLING_BEHIND: "falling behind",
    State.AHEAD: "ahead",
    State.NOT_STARTED: "not started",
    State.STOPPED: "stopped",
    State.STUCK: "stuck",
    State.LOSING_DATA: "losing data",
    State.CANT_SEE: "can't see",
}


def duration(seconds: float) -> str:
    """0.4 s, 24 s, 3 min 50 s, 2 h, 3 d 4 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _pair(whole // 60, "min", whole % 60, "s")
    if whole < 86400:
        return _pair(whole // 3600, "h", whole % 3600 // 60, "min")
    return _pair(whole // 86400, "d", whole % 86400 // 3600, "h")


def _pair(big: int, unit: str, small: int, smaller: str) -> str:
    return f"{big} {unit} {small} {smaller}" if small else f"{big} {unit}"


def rate(events_a_second: float) -> str:
    """+38 events/s; one decimal below 10."""
    places = 0 if abs(events_a_second) >= 9.95 else 1
    return f"{events_a_second:+.{places}f} events/s"


def events(count: int) -> str:
    """1 event, 1,234 events."""
    return f"{count:,} event{'' if count == 1 else 's'}"


def eta(expected: Eta) -> str:
    """done in 20 s to 1 min 5 s"""
    if expected.high is None:
        return f"done in {duration(expected.low)} at best"
    low, high = duration(expected.low), duration(expected.high)
    return f"done in {low}" if low == high else f"done in {low} to {high}"


def held(event: HeldEvent) -> str:
    """OrderShipped (attempt 7: KeyError 'carrier')"""
    name = event.type or "a record that can't be read"
    if event.error is None:
        return name
    attempt = f"attempt {event.attempts}: " if event.attempts else ""
    return f"{name} ({attempt}{event.error})"


def place(kind: StageKind, name: str, partition: int | None, topic: str | None) -> str:
    """partition 3 of orders.events; the relay of order; orders.events; orders"""
    if partition is not None:
        return f"partition {partition} of {topic or name}"
    if kind in (StageKind.RELAY, StageKind.STORE):
        return f"the {kind} of {name}"
    return topic or name


def described(
    state: State, pending: int | None, age: float | None, *,
    event: HeldEvent | None = None, expected: Eta | None = None, net: float | None = None, lost: int = 0,
    alive: bool | None = None,
) -> str:  # fmt: skip
    """A state as a sentence without a subject, for a box, a partition, or a screen reader."""
    waiting = "nothing waits" if not pending else f"{events(pending)} {'wait' if pending != 1 else 'waits'}"
    behind = f", the oldest for {duration(age)}" if pending and age is not None else ""
    match state:
        case State.UP_TO_DATE:
            detail = "" if not pending else f": {waiting}{behind}"
        case State.CATCHING_UP:
            detail = f": {waiting}{behind}" + (f"; {eta(expected)}" if expected else "")
        case State.FALLING_BEHIND:
            detail = f": {waiting}{behind}" + (f" ({rate(net)})" if net else "")
        case State.STUCK:
            detail = (f" on {held(event)}" if event else "") + f": {waiting}{behind}"
        case State.STOPPED:
            detail = f": {waiting}{behind}, and nobody is there to take {'it' if pending == 1 else 'them'}"
        case State.NOT_STARTED if pending and alive is False:
            detail = f": nothing was ever passed, {waiting}{behind}, and nobody is there"
        case State.NOT_STARTED:
            detail = ": nothing was ever passed" + (f", {waiting}{behind}" if pending else "")
        case State.LOSING_DATA if lost:
            detail = f": {events(lost)} that were sent are not in the topic"
        case State.LOSING_DATA:
            detail = ": records that it has not seen are gone from the topic"
        case State.AHEAD:
            detail = ": committed beyond the end of the log"
        case State.MOVED_BACK:
            detail = f": the committed offset went back; {waiting}" + (
                ", and nobody is there" if alive is False else ""
            )
        case State.CANT_SEE:
            detail = f": the last thing seen was that {waiting}{behind}" if pending is not None else ""
        case _:
            detail = f": {waiting}{behind}"
    return f"{WORD[state]}{detail}"
