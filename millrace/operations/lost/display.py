"""The table and the lines of the `lost` commands."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from millrace.operations.lost.release import Became, ReleaseOutcome
from millrace.runtime.printable import tidy


def lost_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A block per stream, from what `lost list --json` gives."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("noted", no_wrap=True)
    table.add_column("stream, what was applied, what is held", overflow="fold")
    for row in tidy(rows):
        table.add_row(row["noted_at"][:16].replace("T", " "), _block(row))
    return table


def _block(row: Mapping[str, Any]) -> Text:
    """The stream's id has a line to itself: people copy it."""
    block = Text(row["stream"])
    block.append(
        f"\n{row['consumer']} · applied up to version {row['version']}, position {row['position']:,}; its"
        f" store ends"
        f" at {row['ended_at']:,}",
        style="dim",
    )
    if row["released_by"] is not None:
        block.append(f"\nreleased by {row['released_by']}: {row['reason']}", style="green")
        return block
    if row["held"] is not None:
        block.append(f"\nholds {row['held'] or 'nothing'}", style="yellow" if row["held"] else "dim")
    block.append(f"\n{row['remedy']}", style="dim italic")
    return block


def outcome_text(outcome: ReleaseOutcome, *, dry_run: bool) -> str:
    """What became of a lost stream's effect, or would."""
    match outcome.became:
        case Became.RELEASED:
            verb = "would release" if dry_run else "released"
            return f"{outcome.stream_id}: {verb} {outcome.what} ({outcome.own})"
        case Became.NOTHING:
            return f"{outcome.stream_id}: {outcome.own} holds nothing"
        case Became.KEPT:
            return f"{outcome.stream_id}: not released: {outcome.what}"
