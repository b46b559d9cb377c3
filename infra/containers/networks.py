"""The networks of the stack. Those of compose.yaml, and one more for Kafka, so that exactly one link can be cut.

    platform         everybody: ports published to the host, HTTP and gRPC between services, SMTP
    events           Kafka and the services
    <service>-data   a service and its Postgres, nobody else

All but `platform` are internal: they lead nowhere else, and cutting one leaves the published ports alone.
"""

from docker.models.containers import Container
from testcontainers.core.network import Network

from infra.containers.leftovers import OWNER_LABELS
from infra.local.errors import StackError
from infra.topology import Service, Topology

EVENTS = "events"


class Networks:
    """Created by `create`, removed by `remove` when no container uses them any more."""

    def __init__(self, topology: Topology) -> None:
        self.platform = _network(internal=False)
        self._internal = {EVENTS: _network(internal=True)}
        self._members = {"kafka": [EVENTS]}
        self._servers = {"kafka", *(service.postgres for service in topology.services)}
        for service in topology.services:
            data = f"{service.name}-data"
            self._internal[data] = _network(internal=True)
            self._members[service.postgres] = [data]
            self._members[service.name] = [EVENTS, data]
        self._created: list[Network] = []

    @property
    def created(self) -> bool:
        return bool(self._created)

    def is_public(self, component: str) -> bool:
        """Whether everybody finds it by its name: Kafka and Postgres are found on their own networks only."""
        return component not in self._servers

    def data(self, service: Service) -> Network:
        """The network between a service and its Postgres."""
        return self._internal[f"{service.name}-data"]

    def create(self) -> None:
        for network in (self.platform, *self._internal.values()):
            network.create()
            self._created.append(network)

    def remove(self) -> None:
        while self._created:
            self._created.pop().remove()

    def connect(self, component: str, container: Container) -> None:
        """Makes the container a member of every internal network where the component belongs, under its name.

        Also what heals a cut. Safe to repeat.
        """
        container.reload()
        joined = container.attrs["NetworkSettings"]["Networks"]
        for name in self._members.get(component, ()):
            network = self._internal[name]
            if network.name not in joined:
                network.connect(str(container.id), [component])

    def cut(self, component: str, container: Container, other: str) -> None:
        """Cuts the link to `other`: established connections get no answer any more, new ones find nobody.

        Raises StackError when the two share no internal network.
        """
        shared = set(self._members.get(component, ())) & set(self._members.get(other, ()))
        if not shared:
            raise StackError(f"there is no link between {component} and {other} that could be cut")
        for name in shared:
            container.client.networks.get(self._internal[name].id).disconnect(container)


def _network(*, internal: bool) -> Network:
    return Network(docker_network_kw={"driver": "bridge", "internal": internal, "labels": OWNER_LABELS})
