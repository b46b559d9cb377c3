"""How a timeline is shown: a page for people, a document for programs."""

import sys
from datetime import datetime
from typing import Any

import orjson
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from millrace.application.timeline import Step, Timeline
from millrace.http.history import event_document
from millrace.runtime.printable import line
from millrace.runtime.terminal import Terminal

_LONGEST_WORD = 44  # characters; what is longer (a sealed value, a token) is nothing to read
_LONGEST_VALUE = 400


def as_json(timeline: Timeline) -> str:
    """All of it. Sealed data stay sealed."""
    document = {
        "service": timeline.service,
        "stream_id": timeline.stream_id,
        "version": timeline.version,
        "current_version": timeline.current_version,
        "state": timeline.state,
        "events": [_event(step) for step in timeline.steps],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def _event(step: Step) -> dict[str, Any]:
    # Data as the store has them, parsed here only to be indented with the rest.
    event = event_document(step.event) | {"data": orjson.loads(step.event.data)}
    return event | {
        "changes": [{"field": each.field, "old": each.old, "new": each.new} for each in step.changes]
    }


def show(timeline: Timeline) -> None:
    """The events, each with what it changed, and below them the state."""
    # A file or a pipe has no width; 80 columns would cut what nobody wraps.
    console = Terminal(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(_headline(timeline))
    left_out = timeline.version - len(timeline.steps)
    if left_out:
        noun = "event is" if left_out == 1 else "events are"
        console.print(
            f"\n[dim]{left_out:,} earlier {noun} not shown: --last {timeline.version} or --json shows"
            f" all[/dim]"
        )
    for step in timeline.steps:
        console.print()
        console.print(_step(step))
    console.print(f"\n[bold]State at version {timeline.version}[/bold]")
    console.print(_state(timeline.state))


def _headline(timeline: Timeline) -> Text:
    headline = Text.assemble(
        (line(timeline.stream_id), "bold"), f"  {timeline.service}, version {timeline.version}"
    )
    if timeline.version < timeline.current_version:
        headline.append(f" of {timeline.current_version}", "yellow")
    return headline


def _step(step: Step) -> Group:
    event = step.event
    title = Text.assemble((f"{event.version:>4}  ", "dim"), (event.event_type, "bold cyan"))
    if event.schema_version > 1:
        title.append(f" v{event.schema_version}", "dim")
    title.append(f"  {_moment(event.recorded_at)}  position {event.position}")
    who = f"by {event.metadata.actor or 'nobody named'}, correlation {event.metadata.correlation_id}"
    return Group(title, _indented(Text(line(who), "dim")), _indented(_effect(step)))


def _effect(step: Step) -> Table:
    """What it changed, and what it told beyond that: a reason, a carrier."""
    table = _grid()
    for change in step.changes:
        new = Text.assemble(("→ ", "dim"), (_value(change.new), "green"))
        old = Text() if change.old is None else Text.assemble((_value(change.old), "red"), " ")
        table.add_row(Text(change.field), old + new)
    if not step.changes:
        table.add_row(Text("changed nothing", "dim"), "")
    known = step.state if isinstance(step.state, dict) else {}
    for name, value in orjson.loads(step.event.data).items():
        if name not in known and value is not None:
            table.add_row(Text(name, "dim"), Text(_value(value), "dim"))
    return table


def _state(state: Any) -> RenderableType:
    table = _grid()
    fields = state.items() if isinstance(state, dict) else [("", state)]
    for name, value in fields:
        table.add_row(Text(name), Text(_value(value)))
    return _indented(table)


def _indented(content: RenderableType) -> RenderableType:
    return Padding(content, (0, 0, 0, 6), expand=False)


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03} UTC"


def _value(value: Any) -> str:
    if value is None:
        return "—"
    # As JSON writes it where it has no face of its own, or could play tricks on the terminal.
    shows_itself = isinstance(value, str) and value != "" and value.isprintable()
    text = value if shows_itself else orjson.dumps(value).decode()
    if isinstance(value, str) and len(text) > _LONGEST_WORD and " " not in text:
        return f"{text[:16]}… ({len(text)} characters)"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}… ({len(text)} characters)"
