"""`store`: how the event store is, and accepting a server that it moved to."""

from typing import Annotated, Any, LiteralString, cast

import orjson
import typer

from millrace.operations.tools import FAILED, MISCONFIGURED, Tools
from millrace.postgres.database import connect
from millrace.process.settings import RestoreSettings, ServiceSettings
from millrace.runtime.terminal import echo, echo_json

_STATUS: LiteralString = """
    SELECT s.state, public.store_refusal(), public.store_verified(), i.epoch,
           (SELECT coalesce(max(e.position), 0) FROM public.events e), s.timeline, public.server_timeline(),
           s.synchronous, s.since
    FROM public.store_state s, public.store_identity i
"""


def store_commands(tools: Tools) -> typer.Typer:
    """The group `store`."""
    app = typer.Typer(help="The event store: its state, and accepting a new server.", no_args_is_help=True)

    @app.callback()
    def about() -> None:
        """The event store."""

    @app.command()
    def status(
        as_json: Annotated[bool, typer.Option("--json", help="For programs: a JSON object.")] = False,
    ) -> None:
        """Print whether commands are accepted, and why not. Exit code 1 when they are refused."""
        found = tools.run(lambda settings: _status(settings))
        if as_json:
            echo_json(orjson.dumps(found, option=orjson.OPT_INDENT_2, default=str))
        else:
            echo(_text(found))
        if found["refusal"]:
            raise typer.Exit(FAILED)

    @app.command()
    def accept(
        moved: Annotated[
            bool,
            typer.Option("--moved", help="The store moved on purpose (an upgrade), and nothing is missing."),
        ] = False,
    ) -> None:
        """Accept the server that the store moved to, without comparing the store with its topic.

        The relay does that by itself as soon as Kafka answers. This is for an upgrade while Kafka is away.
        """
        if not moved:
            tools.fail("say what you accept: --moved", MISCONFIGURED)
        refusal = tools.run(lambda settings: _accept(settings))
        if refusal:
            tools.fail(f"not accepted: {refusal}")
        echo(f"{tools.definition.name}: accepted; commands are accepted again")

    return app


async def _status(settings: ServiceSettings) -> dict[str, Any]:
    row = await _one_row(settings, _STATUS)
    names = (
        "state",
        "refusal",
        "verified",
        "epoch",
        "head",
        "noted_timeline",
        "timeline",
        "synchronous",
        "since",
    )
    return dict(zip(names, row, strict=True))


async def _accept(settings: ServiceSettings) -> str | None:
    """Why not; None when it was accepted. A store that is known to lack events is restored, not accepted."""
    state, refusal, *_ = await _one_row(settings, _STATUS)
    if state != "open":
        return str(refusal)
    await _one_row(settings, "SELECT public.note_store_verified()")
    return None


async def _one_row(settings: ServiceSettings, query: LiteralString) -> tuple[Any, ...]:
    url = cast("RestoreSettings", settings).migration_database_url
    async with await connect(url, name="store") as connection:
        await connection.execute("SET ROLE millrace_owner")
        row = await (await connection.execute(query)).fetchone()
    assert row is not None, "each of these has one row"
    return row


def _text(found: dict[str, Any]) -> str:
    if found["refusal"]:
        return f"commands are refused: {found['refusal']}"
    compared = (
        "was compared with its topic"
        if found["verified"]
        else "waits for the relay to compare it with its topic"
    )
    return f"commands are accepted; the store ends at position {found['head']:,} and {compared}"
