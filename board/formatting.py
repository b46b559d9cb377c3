"""States, durations, counts and rates as text."""

from datetime import UTC, datetime

from board.document import Eta, HeldEvent, StageKind, State
from millrace.runtime.shorten import readable

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
    State.SUSPENDED: "suspended",
    State.CANT_SEE: "can't see",
}


SHORTEST = 0.05
"""Seconds below which a duration reads 0.0 s."""
_WAITING = frozenset({State.WARMING_UP, State.CATCHING_UP, State.FALLING_BEHIND, State.STUCK})
"""States of what waits: they are never said beside "nothing waits"."""


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


def beginning(begins: str, declared: str, begun_at: datetime) -> str:
    """began with the history; acts on events since 2026-11-29 01:24 UTC"""
    since = f"acts on events since {begun_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    text = "began with the history" if begins == "history" else since
    return (
        text
        if begins == declared
        else f'{text} (begins="{declared}", which its program says, changes nothing)'
    )


def rate(events_a_second: float) -> str:
    """+38 events/s; one decimal below 10."""
    places = 0 if abs(events_a_second) >= 9.95 else 1
    return f"{events_a_second:+.{places}f} events/s"


def events(count: int, capped: bool = False) -> str:
    """1 event, 1,234 events; at least 10,001 events, of what was counted no further."""
    return f"{'at least ' if capped else ''}{count:,} event{'' if count == 1 else 's'}"


def waits(pending: int | None, age: float | None = None, capped: bool = False) -> str:
    """nothing waits; 1 event waits, the oldest for 4 min"""
    if not pending:
        return "nothing waits"
    behind = f", the oldest for {duration(age)}" if age is not None else ""
    return f"{events(pending, capped)} {'wait' if pending != 1 else 'waits'}{behind}"


def eta(expected: Eta) -> str:
    """done in 20 s to 1 min 5 s"""
    if expected.high is None:
        return f"done in {duration(expected.low)} at best"
    low, high = duration(expected.low), duration(expected.high)
    return f"done in {low}" if low == high else f"done in {low} to {high}"


def held(event: HeldEvent) -> str:
    """OrderShipped (attempt 7: KeyError 'carrier'); an open transaction of another producer (at offset 12)"""
    if event.transaction_at is not None:
        return f"an open transaction of another producer (at offset {event.transaction_at})"
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
    state: State,
    pending: int | None,
    age: float | None,
    *,
    event: HeldEvent | None = None,
    expected: Eta | None = None,
    net: float | None = None,
    lost: int = 0,
    alive: bool | None = None,
    refusal: str = "",
    capped: bool = False,
    ended: bool = False,
    covered: bool = False,
) -> str:
    """A state as a sentence without a subject, for a box, a partition, or a screen reader. The state alone
    decides what is said; the numbers only how much of it.

    `capped`, `ended`, `covered`: see Measure.
    """
    waiting = waits(pending, age, capped)
    if not pending and state in _WAITING:
        return WORD[state] + (f" on {held(event)}" if event and state is State.STUCK else "")
    match state:
        case State.UP_TO_DATE if covered and pending:
            detail = f": everything was applied; {events(pending)} would be read again"
        case State.UP_TO_DATE:
            detail = "" if not pending else f": {waiting}"
        case State.CATCHING_UP:
            detail = f": {waiting}" + (f"; {eta(expected)}" if expected else "")
        case State.FALLING_BEHIND:
            detail = f": {waiting}" + (f" ({rate(net)})" if net and net > 0 else "")
        case State.STUCK:
            detail = (f" on {held(event)}" if event else "") + f": {waiting}"
        case State.STOPPED if ended:
            detail = f": its service does not run; {waiting}"
        case State.STOPPED:
            detail = f": {waiting}, and nobody is there to take {'it' if pending == 1 else 'them'}"
        case State.NOT_STARTED if ended or (pending and alive is False):
            detail = ": nothing was ever passed" + (f", {waiting}, and nobody is there" if pending else "")
        case State.NOT_STARTED:
            detail = ": nothing was ever passed" + (f", {waiting}" if pending else "")
        case State.LOSING_DATA if lost:
            detail = f": {events(lost)} that were sent are not in the topic"
        case State.LOSING_DATA:
            detail = ": records that it has not seen are gone from the topic"
        case State.SUSPENDED:
            detail = f": {refusal or 'the event store refuses commands'}"
        case State.AHEAD:
            detail = ": committed beyond the end of the log"
        case State.MOVED_BACK:
            detail = f": the committed offset went back; {waits(pending)}" + (
                ", and nobody is there" if alive is False else ""
            )
        case State.CANT_SEE:
            detail = f": the last thing seen was that {waiting}" if pending is not None else ""
        case _:
            detail = f": {waiting}"
    return readable(f"{WORD[state]}{detail}")
