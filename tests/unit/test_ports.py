"""The ports of servers that are stopped and started again."""

import fcntl
import random
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from infra.local.errors import StackError
from infra.local.ports import LOOPBACK, _reservations, can_bind, free_ports, is_free

ANOTHER_RUN = """
import sys
from infra.local import ports
ports._CANDIDATES = [int(sys.argv[1])]
print(*ports.free_ports(1), flush=True)
sys.stdin.read()
"""
OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_no_outgoing_connection_takes_a_free_port() -> None:
    first = int(OUTGOING.read_text().split()[0]) if OUTGOING.exists() else 49152
    assert all(port < first for port in free_ports(200))


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(200)
    assert len(set(ports)) == 200
    assert all(map(is_free, ports))


def test_a_port_that_somebody_listens_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = unreserved(2)
    monkeypatch.setattr("infra.local.ports._CANDIDATES", [taken, free])
    with socket.create_server((LOOPBACK, taken)):
        assert free_ports(1) == [free]


def test_a_port_that_another_run_was_given_is_not_given_until_that_run_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It listens on it only seconds later: a Postgres first makes its data directory."""
    given, free = unreserved(2)
    monkeypatch.setattr("infra.local.ports._CANDIDATES", [given, free])
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER_RUN, str(given)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline().split() == [str(given).encode()]
        assert free_ports(1) == [free]
        with pytest.raises(StackError, match="only 0 of 1 ports are free"):
            free_ports(1)
        run.kill()
    assert free_ports(1) == [given]


def unreserved(count: int) -> list[int]:
    """Ports that are free and that nobody was given yet, neither here nor in another run."""
    free_ports(1)  # opens the file of the reservations
    candidates = (port for port in random.sample(range(20_000, 32_768), 1000) if can_bind(port))
    return list(islice(filter(is_unreserved, candidates), count))


def is_unreserved(port: int) -> bool:
    if port in _reservations._taken or not _reservations.take(port):
        return False
    # Through the same descriptor: to close another one would give back all that this process has.
    assert _reservations._file is not None
    fcntl.lockf(_reservations._file, fcntl.LOCK_UN, 1, port)
    _reservations._taken.remove(port)
    return True
