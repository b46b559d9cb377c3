"""TCP ports: find free ones, and say who holds a taken one."""

import socket
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from infra.local.errors import PortTaken

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Port:
    """A TCP port and the setting (environment variable) that moves it."""

    number: int
    setting: str


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now. All are held until all are found."""
    with ExitStack() as sockets:
        ports = []
        for _ in range(count):
            listener = sockets.enter_context(socket.socket())
            listener.bind((LOOPBACK, 0))
            ports.append(int(listener.getsockname()[1]))
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
