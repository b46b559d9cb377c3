"""The tables and lines of the `parked` commands, for one service and for the whole platform."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from chassis.consumer import Discarded, Redriven

_LONGEST = 300  # characters of an error; --json has all that is kept
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def parked_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A block a stream, from what `parked list --json` gives; {"service", "problem"} alone is a service without answer."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("service", no_wrap=True)
    for name in ("events", "for"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("stream, consumer, first event and its error", overflow="fold")
    for row in rows:
        if "stream" in row:
            table.add_row(row["service"], f"{row['events']:,}", age_text(row["age"]), _block(row))
        else:
            table.add_row(row["service"], "", "", Text(row["problem"], style="red"))
    return table


def _block(row: Mapping[str, Any]) -> Text:
    """The stream's id has a line to itself: people copy it."""
    first = [row["consumer"], event_text(row["event_type"], row["version"])]
    if row["position"] is not None:
        first.append(f"position {row['position']:,}")
    first.append(f"tried {row['attempts']}×")
    block = Text(row["stream"])
    block.append("\n" + " · ".join(first), style="dim")
    block.append(
        f"\n{row['error_class']}: {_clipped(row['error'])}", style="dim" if row["note"] else "yellow"
    )
    if row["note"]:
        block.append(f"\n{row['note']}", style="dim italic")
    return block


def event_text(event_type: str | None, version: int | None) -> str:
    """Which event of its stream a record is."""
    return "unreadable" if version is None else f"{event_type} ({version})"


def age_text(seconds: float) -> str:
    """In the largest unit that fits: 12 s, 3 min, 5 h, 2 d."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def redriven_text(consumer: str, redriven: Redriven, *, dry_run: bool) -> str:
    """What became of a stream in a redrive, or would."""
    verb = "would be applied" if dry_run else "applied"
    text = f"{consumer}: {redriven.stream_id}: {_events(redriven.applied)} {verb}"
    if redriven.error is not None:
        again = "the next one would fail again" if dry_run else "the next one failed again"
        return f"{text}, {again}: {_clipped(redriven.error)}; {redriven.left:,} left parked"
    if redriven.left:
        return f"{text}; {redriven.left:,} more came meanwhile"
    return f"{text}, the stream {'would flow' if dry_run else 'flows'} again"


def discarded_text(consumer: str, discarded: Discarded) -> list[str]:
    """What went, and what that means for the stream."""
    record = discarded.record
    what = event_text(record.event_type, record.version)
    return [
        f"discarded for {consumer}: {record.stream_id}: {what}, {record.topic} partition {record.partition}"
        f" offset {record.offset}; the record and the reason are kept in discarded_events",
        f"version {discarded.version} of the stream counts as seen: {consumer} will never apply it, also when it is sent"
        " again"
        if discarded.version is not None
        else "the record counts as no event: the stream's version stays as it is",
        f"{_events(discarded.left)} of the stream still parked: `parked redrive {record.stream_id}`"
        if discarded.left
        else "nothing of the stream is parked any more: it flows again",
    ]


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"


def _clipped(error: str) -> str:
    line = " ".join(error.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
