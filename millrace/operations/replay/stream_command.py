"""`replay stream STREAM_ID`: the state of a stream at a version or a time, and the events that led there."""

from collections import deque
from datetime import UTC, datetime
from typing import Annotated

import typer

from millrace.application.as_of import EXAMPLES, AsOf, BeforeTheBeginning, BeyondTheEnd, parse_time
from millrace.application.timeline import Step, Timeline, extent, walk
from millrace.domain.events import MalformedEvent, UnknownEvent
from millrace.domain.stream_kind import StreamKind
from millrace.operations.definition import ServiceDefinition
from millrace.operations.replay import stream_display
from millrace.operations.replay.stream_names import kind_of, no_such_stream
from millrace.operations.tools import MISCONFIGURED, Tools
from millrace.postgres.database import open_read_only_pool
from millrace.process.settings import ServiceSettings
from millrace.runtime.errors import ToolError
from millrace.runtime.terminal import echo_json
from millrace.store import EventStore

SHOWN = 100  # events, unless --last says otherwise: the answer to "what is it?" stands below them

AtVersion = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="As it was after its N-th event.", show_default=False)
]
AtTime = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help=f"With what was recorded by then: {EXAMPLES}, or '10m ago' (s, m, h, d).",
        show_default=False,
    ),
]
Last = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help=f"Only the last N events [{SHOWN}; with --json all].", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: everything, as one JSON document.")]


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `stream`."""

    @app.command()
    def stream(
        stream_id: Annotated[str, typer.Argument(help="As in order-<id>.", show_default=False)],
        at_version: AtVersion = None,
        at_time: AtTime = None,
        last: Last = None,
        as_json: AsJson = False,
    ) -> None:
        """Show what a stream is, or was at a version or a time, and the events that led there with what each
        changed."""
        if at_version is not None and at_time is not None:
            tools.fail("--at-version and --at-time are both given: give one of them", MISCONFIGURED)
        try:
            as_of = AsOf(at_version, parse_time(at_time, datetime.now(UTC)) if at_time is not None else None)
        except ValueError as error:
            tools.fail(f"--at-time: {error}", MISCONFIGURED)
        shown = last if last is not None or as_json else SHOWN
        timeline = tools.run(lambda settings: look(settings, tools.definition, stream_id, as_of, shown))
        if as_json:
            echo_json(stream_display.as_json(timeline))
        else:
            stream_display.show(timeline)


async def look(
    settings: ServiceSettings, definition: ServiceDefinition, stream_id: str, as_of: AsOf, last: int | None
) -> Timeline:
    """The stream at `as_of`, with the `last` steps (None: all). Raises ToolError when there is no such
    thing."""
    if not stream_id.isprintable():
        raise ToolError("a stream id has printable characters only")
    async with (
        open_read_only_pool(settings.database_url, name=f"{definition.name}-replay", max_size=1) as pool,
        EventStore(pool, definition.registry) as store,
    ):
        kind = kind_of(definition, stream_id)
        found = await extent(pool, stream_id, as_of.time) if kind else None
        if kind is None or found is None:
            raise await no_such_stream(pool, definition, stream_id)
        try:
            version = found.version_at(as_of)
        except BeyondTheEnd as error:
            raise ToolError(f"{stream_id}: {error}; --at-version 1..{error.last_version}") from None
        except BeforeTheBeginning as error:
            raise ToolError(f"{stream_id}: {error}") from None
        steps = await _last_steps(store, kind, stream_id, version, last)
    state = steps[-1].state
    shown = steps if last is None else steps[len(steps) - min(last, len(steps)) :]
    return Timeline(definition.name, stream_id, version, found.last_version, state, tuple(shown))


async def _last_steps(
    store: EventStore, kind: StreamKind, stream_id: str, version: int, last: int | None
) -> list[Step]:
    """At least the last one: it has the state."""
    kept: deque[Step] = deque(maxlen=None if last is None else max(last, 1))
    reached = 0
    try:
        async for step in walk(store, kind.decider, stream_id, version):
            kept.append(step)
            reached = step.event.version
    except (UnknownEvent, MalformedEvent) as error:
        detail = str(error).splitlines()[0]
        raise ToolError(f"{stream_id}: event {reached + 1} can't be read: {detail}") from None
    return list(kept)
