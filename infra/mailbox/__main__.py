"""Runs the mailbox: an SMTP server that accepts everything and delivers nothing, and its HTTP door."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session

from infra.mailbox.api import create_app
from infra.mailbox.store import MessageStore

MESSAGE_LIMIT_BYTES = 5 * 1024 * 1024


class Deliver:
    """What aiosmtpd calls for each message."""

    def __init__(self, store: MessageStore) -> None:
        self._store = store

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.original_content or b""
        return f"250 OK {self._store.add(content)}"


def main(
    directory: Annotated[Path, typer.Option(help="Where messages are kept, as .eml files.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    smtp_port: Annotated[int, typer.Option(help="Port of the SMTP server.")] = 1025,
    http_port: Annotated[int, typer.Option(help="Port of the page and the JSON API.")] = 8025,
    limit: Annotated[int, typer.Option(help="How many messages are kept; the oldest make room.")] = 2000,
) -> None:
    """Take e-mail by SMTP, keep it, show it. For development and tests: it delivers nothing."""
    store = MessageStore(directory, limit)

    @asynccontextmanager
    async def serve_smtp() -> AsyncIterator[None]:
        server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(
                Deliver(store), data_size_limit=MESSAGE_LIMIT_BYTES, enable_SMTPUTF8=True, hostname="mailbox"
            ),
            host,
            smtp_port,
        )
        try:
            yield
        finally:
            server.close()

    uvicorn.run(
        create_app(store, serve_smtp), host=host, port=http_port, log_level="warning", access_log=False
    )


if __name__ == "__main__":
    typer.run(main)
