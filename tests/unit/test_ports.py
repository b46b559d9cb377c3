"""The ports of servers that are stopped and started again."""

import socket
from pathlib import Path

import pytest

from infra.local.ports import LOOPBACK, free_ports, is_free

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_no_outgoing_connection_takes_a_free_port() -> None:
    first = int(OUTGOING.read_text().split()[0]) if OUTGOING.exists() else 49152
    assert all(port < first for port in free_ports(200))


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(200)
    assert len(set(ports)) == 200
    assert all(map(is_free, ports))


def test_a_port_that_somebody_listens_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = free_ports(2)
    monkeypatch.setattr("infra.local.ports._CANDIDATES", [taken, free])
    with socket.create_server((LOOPBACK, taken)):
        assert free_ports(1) == [free]
