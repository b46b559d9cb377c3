"""How many connections a server has at once, and which one makes room for a new one."""

from typing import Protocol


class Connection(Protocol):
    """One that can be ended."""

    def make_room(self) -> None:
        """End at once: another connection takes the place."""


class Connections:
    """The connections of one server, `most` of them.

    A server that is full ends the connection that has waited for its client the longest: for a head, a body,
    or for an answer to be read. So slow clients keep nobody out; only requests that are being answered do.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}  # for their clients, the longest first

    def __len__(self) -> int:
        """How many there are."""
        return len(self._open)

    def enter(self, connection: Connection) -> bool:
        """Whether there is room for it."""
        if len(self._open) >= self.most and not self._made_room():
            return False
        self._open.add(connection)
        return True

    def waits(self, connection: Connection) -> None:
        """From now on it waits for its client."""
        if connection in self._open:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    def works(self, connection: Connection) -> None:
        """From now on its client waits for the service."""
        self._waiting.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """It is closed."""
        self._waiting.pop(connection, None)
        self._open.discard(connection)

    def _made_room(self) -> bool:
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        self.leave(longest)
        longest.make_room()
        return True
