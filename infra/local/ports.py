"""TCP ports: find free ones, and say who holds a taken one."""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.local.errors import PortTaken, StackError

LOOPBACK = "127.0.0.1"
_HERE = (LOOPBACK, "0.0.0.0", "::", "::1")  # noqa: S104 - where a client of the loopback address is answered


@dataclass(frozen=True)
class Port:
    """A TCP port and the setting (environment variable) that moves it."""

    number: int
    setting: str


# Below the range from which systems take the near ends of outgoing connections (from 32768 on Linux, 49152
# elsewhere). From that range, a server that was stopped finds its port taken when it comes back: by any
# connection, and now and then by the very client that waits for it, for a socket can connect to itself
# (simultaneous open, RFC 9293, 3.5).
_CANDIDATES = range(20_000, 32_768)


class _Reservations:
    """Ports that a process of this user was given and may not listen on yet: nobody else is given them until
    it ends.

    A lock on one byte of a file for each port: the system frees it when the process ends, however it does.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        self._taken: set[int] = set()

    def take(self, port: int) -> bool:
        """Whether the port is ours from now on; False when somebody, here or in another process, was given
        it."""
        if port in self._taken:
            return False
        if self._file is None:
            path = Path(tempfile.gettempdir()) / f"millrace-ports-{os.getuid()}"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self._taken.add(port)
        return True


_reservations = _Reservations()


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now, and that nobody else of this user is given while we
    live.

    Raises StackError when there are no more.
    """
    ports: list[int] = []
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        if len(ports) == count:
            break
        if can_bind(port) and _reservations.take(port):
            ports.append(port)
    if len(ports) < count:
        raise StackError(f"only {len(ports)} of {count} ports are free: end other test runs")
    return ports


def can_bind(port: int) -> bool:
    """Whether nobody has the port at all, not even in TIME_WAIT."""
    with socket.socket() as listener:
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


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


def listeners(port: int) -> list[psutil.Process]:
    """The processes that listen on the port on the loopback address, or on all; none when the system does not
    show them."""
    try:
        pids = {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
            and connection.pid
            and connection.laddr
            and connection.laddr.port == port
            and connection.laddr.ip in _HERE
        }
    except psutil.Error:
        return []  # other users' sockets are hidden on some systems
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found.append(psutil.Process(pid))
    return found


def name_of(process: psutil.Process) -> str:
    """`name (pid N)`"""
    try:
        return f"{process.name()} (pid {process.pid})"
    except psutil.Error:
        return f"pid {process.pid}"


def holder(port: int) -> str | None:
    """The process that listens on the port, as `name (pid N)`; None when the system does not show it."""
    return next((name_of(process) for process in listeners(port)), None)


def require_free(component: str, ports: Iterable[Port]) -> None:
    """Raises PortTaken, naming the component, the holder and the setting that moves the port."""
    for port in ports:
        if not is_free(port.number):
            raise PortTaken(
                component=component, port=port.number, setting=port.setting, holder=holder(port.number)
            )
