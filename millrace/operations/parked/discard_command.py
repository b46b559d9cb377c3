"""`parked discard`: away with a record that can never be applied, not without a reason."""

import getpass
import os
from typing import Annotated

import typer

from millrace.consumer import Discarded, NotDiscarded, discard
from millrace.operations.parked.consumers import not_parked, open_consumers
from millrace.operations.parked.display import discarded_text
from millrace.operations.tools import MISCONFIGURED, Tools
from millrace.process.settings import ServiceSettings
from millrace.runtime.errors import ToolError
from millrace.runtime.terminal import echo

StreamId = Annotated[str, typer.Argument(help="As `parked list` shows it.", show_default=False)]
ConsumerName = Annotated[
    str,
    typer.Option(
        "--consumer", metavar="CONSUMER", help="Consumer that parked the record.", show_default=False
    ),
]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; it is written down.", show_default=False)
]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who decides it; else your login name.", show_default=False),
]
Version = Annotated[
    int | None,
    typer.Option(
        "--version",
        min=0,
        metavar="N",
        help="Which version of the stream the record was, if it does not say; 0: no event of it.",
        show_default=False,
    ),
]


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `discard`."""

    @app.command(name="discard")
    def discard_(
        stream_id: StreamId, consumer: ConsumerName, reason: Reason, by: By = None, version: Version = None
    ) -> None:
        """Take a stream's first parked record away for good: this consumer will never apply it.

        The record, who, when and why are kept in the table discarded_events, which nobody can change. Its
        version of the stream counts as seen, so that the later events can be redriven, and new ones flow.
        """
        if not reason.strip():
            tools.fail("--reason: say why the record can be done without", MISCONFIGURED)

        async def work(settings: ServiceSettings) -> Discarded:
            async with open_consumers(tools.definition, settings, consumer) as consumers:
                (one,) = consumers
                try:
                    return await discard(
                        one, stream_id, reason=reason.strip(), by=by or login_name(), version=version
                    )
                except LookupError:
                    raise await not_parked(stream_id, consumers) from None
                except NotDiscarded as refused:
                    raise ToolError(f"nothing discarded: {refused}") from None

        for line in discarded_text(consumer, tools.run(work)):
            echo(line)


def login_name() -> str:
    """Whose process this is; a user that has no name here is told by its number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
