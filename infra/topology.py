"""The whole platform in one place: services, who asks whom, topics, ports.

Services come from their manifests. The local stack, the tests and the demo read this; compose.yaml is made
from the same.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.local.errors import StackError
from infra.local.home import REPOSITORY
from infra.local.ports import Port, free_ports
from millrace.kafka.topics import Topic
from millrace.manifest import Manifest, read_manifests

HOST = "127.0.0.1"


SERVICES = read_manifests(REPOSITORY)
"""What there is, as each service.toml says."""

NAMES = " or ".join(", ".join(service.name for service in SERVICES).rsplit(", ", 1))
"""For people: order, inventory, notification or user."""

TOPICS = tuple(Topic(one.topic, one.partitions, one.generation, source=f"/{one.service}") for one in SERVICES)
"""The copies of the services' stores; schemas/topics.py has the same for programs."""

PORTS = {
    **{f"{service.prefix}HTTP": service.ports.http for service in SERVICES},
    **{f"{service.prefix}INTERNAL": service.ports.internal for service in SERVICES},
    **{f"{service.prefix}GRPC": service.ports.grpc for service in SERVICES},
    **{f"{service.prefix}POSTGRES": service.ports.postgres for service in SERVICES},
    "KAFKA": 9092,
    "KAFKA_CONTROLLER": 9093,
    "SMTP": 1025,
    "MAILBOX": 8025,
    "PROMETHEUS": 9090,
    "GRAFANA": 3000,
    "BOARD": 8080,
}
"""Default ports. MILLRACE_PORT_OFFSET moves them all, MILLRACE_<NAME>_PORT moves one."""


CANARY_INTERVAL = 5.0
"""Seconds between two canaries (docs/board.md) of a service, where people look at the board."""


@dataclass(frozen=True)
class Topology:
    """The declaration with its ports decided.

    listen            the address that services listen on
    hosts             where a port of PORTS is to be found, unless it is on this machine
    canary_interval   seconds; 0: no canaries, so that a test's stores hold the test's events
    """

    ports: Mapping[str, int]
    services: tuple[Manifest, ...] = SERVICES
    topics: tuple[Topic, ...] = TOPICS
    listen: str = HOST
    hosts: Mapping[str, str] = field(default_factory=dict)
    canary_interval: float = 0.0

    def port(self, name: str) -> Port:
        """The port called `name` in PORTS."""
        return Port(self.ports[name], port_setting(name))

    def address(self, name: str) -> str:
        """host:port"""
        return f"{self.host(name)}:{self.ports[name]}"

    def host(self, name: str) -> str:
        """Where the port called `name` is to be found."""
        return self.hosts.get(name, HOST)

    def defaults(self, service: Manifest) -> dict[str, str]:
        """What the service is told unless the one who starts the stack says otherwise."""
        return {f"{service.prefix}CANARY_INTERVAL": f"{self.canary_interval:g}"}

    def settings(self, service: Manifest) -> dict[str, str]:
        """The service's environment but for its credentials."""
        return self.addresses(service) | self.peers(service)

    def addresses(self, service: Manifest) -> dict[str, str]:
        """Where the service listens and where Kafka is: the rest of the stack relies on it."""
        values = {
            "KAFKA_BOOTSTRAP_SERVERS": self.address("KAFKA"),
            "HTTP_HOST": self.listen,
            "HTTP_PORT": str(self.ports[f"{service.prefix}HTTP"]),
            "INTERNAL_HOST": self.listen,
            "INTERNAL_PORT": str(self.ports[f"{service.prefix}INTERNAL"]),
            "GRPC_HOST": self.listen,
            "GRPC_PORT": str(self.ports[f"{service.prefix}GRPC"]),
        }
        return {f"{service.prefix}{name}": value for name, value in values.items()}

    def peers(self, service: Manifest) -> dict[str, str]:
        """Where the service finds what only it uses: other services, the mail server."""
        values = {
            f"{other.upper()}_GRPC_TARGET": self.address(f"{other.upper()}_GRPC") for other in service.asks
        }
        if service.sends_mail:
            values |= {
                "SMTP_HOST": self.host("SMTP"),
                "SMTP_PORT": str(self.ports["SMTP"]),
                "MAIL_FROM": "Millrace <orders@millrace.example>",
            }
        return {f"{service.prefix}{name}": value for name, value in values.items()}


def service_of_stream(stream_id: str) -> Manifest:
    """The service that has the stream. Raises StackError, with the beginnings that there are, for any other
    id."""
    for service in SERVICES:
        if stream_id.startswith(service.streams):
            return service
    known = ", ".join(f"{prefix}… ({service.name})" for service in SERVICES for prefix in service.streams)
    raise StackError(f"'{stream_id}' is no stream of any service: ids begin with {known}")


def port_setting(name: str) -> str:
    """The environment variable that moves a port of PORTS."""
    return f"MILLRACE_{name}_PORT"


def local_topology(environ: Mapping[str, str] = os.environ) -> Topology:
    """The topology on its usual ports, moved as the environment says.

    Raises StackError when a variable is not a port number, or two ports are the same.
    """
    offset = _number(environ, "MILLRACE_PORT_OFFSET", 0)
    ports = {name: _number(environ, port_setting(name), default + offset) for name, default in PORTS.items()}
    owner: dict[int, str] = {}
    for name, port in ports.items():
        if not 1 <= port <= 65535:
            raise StackError(f"{port_setting(name)}: {port} is not a port (1 to 65535)")
        if port in owner:
            raise StackError(f"{port_setting(name)} and {port_setting(owner[port])} are both {port}")
        owner[port] = name
    return Topology(ports, canary_interval=CANARY_INTERVAL)


def free_topology() -> Topology:
    """The topology on ports that nobody uses now, for tests beside a running stack."""
    return Topology(dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))


def container_topology() -> Topology:
    """The topology as containers see each other: a host of its own for each component, named as the
    component."""
    hosts = {f"{service.prefix}GRPC": service.name for service in SERVICES}
    return Topology(PORTS, listen="0.0.0.0", hosts=hosts | {"KAFKA": "kafka", "SMTP": "mailbox"})  # noqa: S104


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name, "")
    try:
        return int(value) if value else default
    except ValueError:
        raise StackError(f"{name}: '{value}' is not a whole number") from None
