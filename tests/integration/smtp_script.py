"""An SMTP server that answers as a test says: for what a well-behaved server never does."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

GREETING, DOT = "greeting", "."
CLOSE: Final = "close"  # end the connection without an answer
HANG: Final = "hang"  # never answer

_ANSWERS: Final = {
    GREETING: "220 script",
    "EHLO": "250 script",
    "HELO": "250 script",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go on",
    DOT: "250 taken",
    "RSET": "250 ok",
    "NOOP": "250 ok",
    "QUIT": "221 bye",
}


@dataclass
class ScriptedServer:
    """`answers`: what to say to a command ("MAIL"), to a new connection (GREETING) or after a message (DOT):
    a reply, CLOSE or HANG. What is missing is answered with yes. `said`: the commands of all connections, in
    their order."""

    answers: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            going = await self._answer(GREETING, writer)
            while going and (line := await reader.readline()):
                command = line[:4].decode().strip().upper()
                self.said.append(command)
                going = await self._answer(command, writer)
                if going and command == "DATA" and self._answer_to(command).startswith("3"):
                    self.messages.append(await reader.readuntil(b"\r\n.\r\n"))
                    going = await self._answer(DOT, writer)
                going = going and command != "QUIT"
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _answer_to(self, command: str) -> str:
        return self.answers.get(command, _ANSWERS.get(command, "500 what?"))

    async def _answer(self, command: str, writer: asyncio.StreamWriter) -> bool:
        answer = self._answer_to(command)
        if answer == HANG:
            await asyncio.Event().wait()
        if answer == CLOSE:
            return False
        writer.write(f"{answer}\r\n".encode())
        await writer.drain()
        return True


@asynccontextmanager
async def scripted_server(answers: Mapping[str, str]) -> AsyncIterator[ScriptedServer]:
    """It listens on a port of its own."""
    script = ScriptedServer(dict(answers))
    open_connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(script.serve(reader, writer))
        open_connections.add(task)
        task.add_done_callback(open_connections.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for task in open_connections:
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)
