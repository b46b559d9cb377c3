"""Ages by clocks that may have been wrong. Pure.

An event of the future has no age. Zero would hide that it waits, so the age is unknown then, and by how much
the clock was ahead stands beside the event.
"""

from datetime import datetime

from board import formatting


def age_of(committed: datetime, now: datetime, *, error: float = 0.0) -> float | None:
    """Seconds from `committed` to `now`, both by the clock of one store; None for an event of the future.

    `error`: how wrong `now` can be, in seconds; within that an event is of the present.
    """
    seconds = (now - committed).total_seconds()
    return None if seconds < -error else max(0.0, seconds)


def disagreement(committed: datetime, now: datetime, *, error: float = 0.0) -> str | None:
    """What is said of an event of the future: `clocks disagree: recorded 2 h in the future`; None for any
    other."""
    ahead = (committed - now).total_seconds()
    return f"clocks disagree: recorded {formatting.duration(ahead)} in the future" if ahead > error else None
