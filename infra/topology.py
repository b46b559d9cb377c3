"""The whole platform in one place: services, who asks whom, topics, ports.

The local stack, the tests and the demo read this declaration, and compose is compared with it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from chassis.topics import Topic
from infra.local.errors import StackError
from infra.local.ports import Port, free_ports
from schemas.topics import TOPICS

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Service:
    """One service: it has a database server of its own, an HTTP door and a gRPC door.

    asks          the services that it queries over gRPC
    sends_mail    whether it speaks SMTP
    secrets       settings that hold a generated key (32 bytes, url-safe base64)
    streams       what the ids of its streams begin with
    """

    name: str
    streams: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    sends_mail: bool = False
    secrets: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The Python package; also the name of its database and of its login role."""
        return f"{self.name}_service"

    @property
    def prefix(self) -> str:
        """What the names of its settings begin with."""
        return f"{self.name.upper()}_"

    @property
    def postgres(self) -> str:
        """The component that is its database server."""
        return f"postgres-{self.name}"


SERVICES = (
    Service("order", ("order-",), asks=("inventory",)),
    Service("inventory", ("product-", "reservation-")),
    Service("notification", ("notification-",), asks=("user",), sends_mail=True),
    Service("user", ("user-",), secrets=("PRIVACY_MASTER_KEY",)),
)

PORTS = {
    "ORDER_HTTP": 8001,
    "INVENTORY_HTTP": 8002,
    "NOTIFICATION_HTTP": 8003,
    "USER_HTTP": 8004,
    "ORDER_GRPC": 9001,
    "INVENTORY_GRPC": 9002,
    "NOTIFICATION_GRPC": 9003,
    "USER_GRPC": 9004,
    "ORDER_POSTGRES": 5501,
    "INVENTORY_POSTGRES": 5502,
    "NOTIFICATION_POSTGRES": 5503,
    "USER_POSTGRES": 5504,
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
    services: tuple[Service, ...] = SERVICES
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

    def defaults(self, service: Service) -> dict[str, str]:
        """What the service is told unless whoever starts the stack says otherwise."""
        return {f"{service.prefix}CANARY_INTERVAL": f"{self.canary_interval:g}"}

    def settings(self, service: Service) -> dict[str, str]:
        """The service's environment but for its credentials."""
        values = {
            "KAFKA_BOOTSTRAP_SERVERS": self.address("KAFKA"),
            "HTTP_HOST": self.listen,
            "HTTP_PORT": str(self.ports[f"{service.prefix}HTTP"]),
            "GRPC_HOST": self.listen,
            "GRPC_PORT": str(self.ports[f"{service.prefix}GRPC"]),
        }
        for other in service.asks:
            values[f"{other.upper()}_GRPC_TARGET"] = self.address(f"{other.upper()}_GRPC")
        if service.sends_mail:
            values |= {
                "SMTP_HOST": self.host("SMTP"),
                "SMTP_PORT": str(self.ports["SMTP"]),
                "MAIL_FROM": "Millrace <orders@millrace.example>",
            }
        return {f"{service.prefix}{name}": value for name, value in values.items()}


def service_of_stream(stream_id: str) -> Service:
    """The service that has the stream. Raises StackError, with the beginnings that there are, for any other id."""
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
    """The topology as containers see each other: a host of its own for each component, named as the component."""
    hosts = {f"{service.prefix}GRPC": service.name for service in SERVICES}
    return Topology(PORTS, listen="0.0.0.0", hosts=hosts | {"KAFKA": "kafka", "SMTP": "mailbox"})  # noqa: S104


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name, "")
    try:
        return int(value) if value else default
    except ValueError:
        raise StackError(f"{name}: '{value}' is not a whole number") from None
