"""Apache Kafka from the `apache/kafka` image (testcontainers' own Kafka module takes Confluent's images only)."""

from testcontainers.core.container import DockerContainer

from infra.containers.component import ContainerComponent
from infra.containers.networks import Networks
from infra.local.kafka import SERVER_PROPERTIES, require_broker
from infra.local.ports import LOOPBACK

INSIDE = 9092
OUTSIDE = 19092
CONTROLLER = 9093
CLUSTER_ID = "bWlsbHJhY2UtdGVzdHMtMQ"  # any 16 bytes in base64


class KafkaContainer(DockerContainer):
    """A KRaft node that is broker and controller at once.

    It tells clients two addresses of itself: `alias`:9092 on its networks, and 127.0.0.1:`host_port` outside; map
    OUTSIDE to that port.
    """

    def __init__(self, image: str, *, alias: str, host_port: int, heap: str = "384m") -> None:
        super().__init__(image)
        listeners = f"INSIDE://:{INSIDE},OUTSIDE://:{OUTSIDE},CONTROLLER://:{CONTROLLER}"
        properties = SERVER_PROPERTIES | {
            "listeners": listeners,
            "advertised.listeners": f"INSIDE://{alias}:{INSIDE},OUTSIDE://{LOOPBACK}:{host_port}",
            "listener.security.protocol.map": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "INSIDE",
            "controller.quorum.voters": f"1@localhost:{CONTROLLER}",
            "log.dirs": "/var/lib/kafka/data/log",
        }
        # One variable replaces all of the image's defaults: the set is complete.
        for name, value in properties.items():
            self.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
        self.with_env("CLUSTER_ID", CLUSTER_ID)
        self.with_env("KAFKA_HEAP_OPTS", f"-Xms64m -Xmx{heap}")


class Kafka(ContainerComponent):
    """The broker of the stack."""

    memory = "1g"

    def __init__(self, networks: Networks, image: str, port: int) -> None:
        super().__init__("kafka", networks, {OUTSIDE: port})
        self._image = image
        self._port = port

    @property
    def bootstrap_servers(self) -> str:
        """Seen from the host."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def url(self) -> str:
        return self.bootstrap_servers

    def define(self) -> DockerContainer:
        return KafkaContainer(self._image, alias=self.name, host_port=self._port)

    async def check(self) -> None:
        await require_broker(LOOPBACK, self._port)
