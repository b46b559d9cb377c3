"""A read model that is being rebuilt changes its tables, and nothing else in the world.

It is given nothing else: a connection in whose session Postgres refuses appends, and the events. Should its
`apply` nevertheless try to send a record or a mail, to ask another service or to start a program, it is
stopped here, by Python's audit events (PEP 578), at the moment in which it opens the connection. This finds
mistakes; code that means harm (or a client library that connects in C, as under uvloop) is a matter for the
review of the read model.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from millrace.domain.errors import MillraceError

_applying: ContextVar[str | None] = ContextVar("applying", default=None)
_REFUSED = frozenset({"socket.connect", "socket.sendto", "subprocess.Popen", "os.system", "smtplib.connect"})
_installed = False


class SideEffect(MillraceError, RuntimeError):
    """A read model tried to do more than change its tables."""


@contextmanager
def side_effect_guard(schema: str) -> Iterator[None]:
    """While the context lasts, this task and those that it starts open no connections and start no
    programs."""
    global _installed
    if not _installed:
        sys.addaudithook(_refuse)
        _installed = True
    token = _applying.set(schema)
    try:
        yield
    finally:
        _applying.reset(token)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _REFUSED and (schema := _applying.get()) is not None:
        raise SideEffect(f"{schema} is being rebuilt: its apply may not do {event} {arguments[1:2]}")
