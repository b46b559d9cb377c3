"""TCP ports: find free ones, and say who holds a taken one."""

import random
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import psutil

from infra.local.errors import PortTaken

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Port:
    """A TCP port and the setting (environment variable) that moves it."""

    number: int
    setting: str


# Below the range from which systems take the near ends of outgoing connections (from 32768 on Linux, 49152 elsewhere).
# From that range, a server that was stopped finds its port taken when it comes back: by any connection, and now and
# then by the very client that waits for it, for a socket can connect to itself (simultaneous open, RFC 9293, 3.5).
_CANDIDATES = range(20_000, 32_768)


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now. All are held until all are found."""
    with ExitStack() as sockets:
        ports: list[int] = []
        for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
            if len(ports) == count:
                break
            listener = sockets.enter_context(socket.socket())
            with suppress(OSError):
                listener.bind((LOOPBACK, port))
                ports.append(port)
        return ports


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as listener:
        # As servers do: a port in TIME_WAIT after a restart is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def holder(port: int) -> str | None:
    """The process that listens on the port, as `name (pid N)`; None when the system does not tell."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return None  # other users' sockets are hidden on some systems; the message then does without a name
    return None


def require_free(component: str, ports: Iterable[Port]) -> None:
    """Raises PortTaken, naming the component, the holder and the setting that moves the port."""
    for port in ports:
        if not is_free(port.number):
            raise PortTaken(component, port.number, port.setting, holder(port.number))
