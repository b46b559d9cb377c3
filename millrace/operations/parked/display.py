"""The tables and lines of the `parked` commands, for one service and for the whole platform."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from millrace.consumer import Discarded, Redriven
from millrace.runtime.printable import tidy

_LONGEST = 300  # characters of an error; --json has all that is kept
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def parked_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A block a stream, from what `parked list --json` gives; {"service", "problem"} alone is a service
    without answer."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("service", no_wrap=True)
    for name in ("events", "for"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("stream, consumer, first event and its error", overflow="fold")
    for row in tidy(rows):
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
    """In the largest unit that fits: 12 s, 3 min, 5 h, 2 d; `2 h ahead` for a time that the clock has not
    reached."""
    if seconds <= -1:
        return f"{age_text(-seconds)} ahead"
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def redriven_text(consumer: str, redriven: Redriven, *, dry_run: bool) -> str:
    """What became of a stream in a redrive, or would."""
    verb = "would be applied" if dry_run else "applied"
    text = f"{consumer}: {redriven.stream_id}: {_events(redriven.applied)} {verb}"
    if redriven.dropped:
        text += (
            f", {redriven.dropped:,} dropped because their versions were applied before or come again"
            f" (see discarded_events)"
        )
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
    lines = [
        f"discarded for {consumer}: {record.stream_id}: {what}, {record.topic} partition {record.partition}"
        f" offset {record.offset}; the record and the reason are kept in discarded_events",
        _counts_text(consumer, discarded.version, may_come=discarded.open)
        if discarded.version is not None
        else "the record counts as no event: the stream's version stays as it is",
        f"{_events(discarded.left)} of the stream still parked: `parked redrive {record.stream_id}`"
        if discarded.left
        else "nothing of the stream is parked any more: it flows again",
    ]
    if discarded.asked is not None:
        lines.insert(1, _search_text(consumer, discarded, discarded.asked))
    return lines


def _counts_text(consumer: str, version: int, *, may_come: bool) -> str:
    text = f"version {version} of the stream counts as seen: "
    if may_come:
        return (
            f"{text}if an event with that version comes next, {consumer} parks it, and `parked redrive`"
            f" applies it"
        )
    return f"{text}{consumer} will never apply it, even if it is sent again"


def _search_text(consumer: str, discarded: Discarded, version: int) -> str:
    """What the topic has of the version that the record stood for."""
    record, found = discarded.record, discarded.found
    if found is None:
        return f"{record.topic} has no readable version {version} of {record.stream_id}"
    where = (
        f"{record.topic} has the true version {version} of {record.stream_id}, partition"
        f" {found.partition} offset {found.offset}"
    )
    if discarded.in_place:
        return f"{where}: it is parked in the record's place, and a redrive applies it"
    return f"{where}: {consumer} applies it when it comes to it"


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"


def _clipped(error: str) -> str:
    line = " ".join(error.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
