"""Apache Kafka from the `apache/kafka` image (testcontainers' own Kafka module takes Confluent's images only)."""

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from infra.containers.component import ContainerComponent
from infra.containers.images import Images
from infra.containers.networks import Networks
from infra.local.kafka import SERVER_PROPERTIES, require_broker
from infra.local.ports import LOOPBACK, free_ports

STARTED = LogMessageWaitStrategy("Kafka Server started")
INSIDE = 9092
OUTSIDE = 19092
CONTROLLER = 9093
CLUSTER_ID = "bWlsbHJhY2UtdGVzdHMtMQ"  # any 16 bytes in base64


class KafkaContainer(DockerContainer):
    """A KRaft node that is broker and controller at once.

    with KafkaContainer().waiting_for(STARTED) as kafka:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)

    It tells clients two addresses of itself: `alias`:9092 on its network, 127.0.0.1:`host_port` outside. The host port is
    chosen before the start (any free one by default), so that the broker knows it and keeps it through a restart.
    Topics are not created automatically (chassis.topics.ensure_topics).
    """

    def __init__(
        self, image: str = "", *, alias: str = "kafka", host_port: int = 0, heap: str = "384m"
    ) -> None:
        """`image`: by default MILLRACE_KAFKA_IMAGE, or the official one. `heap`: as for Java's -Xmx."""
        super().__init__(image or Images.from_environment().kafka)
        host_port = host_port or free_ports(1)[0]
        self.bootstrap_servers = f"{LOOPBACK}:{host_port}"
        self.with_bind_ports(OUTSIDE, host_port)
        listeners = f"INSIDE://:{INSIDE},OUTSIDE://:{OUTSIDE},CONTROLLER://:{CONTROLLER}"
        properties = SERVER_PROPERTIES | {
            "listeners": listeners,
            "advertised.listeners": f"INSIDE://{alias}:{INSIDE},OUTSIDE://{self.bootstrap_servers}",
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
        self.with_env("KAFKA_OPTS", "-XX:TieredStopAtLevel=1")  # starts faster, and does not live long


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

    async def wipe(self) -> None:
        """Removes it with all of its data, topics and offsets: the next start is that of a new Kafka."""
        await self.remove()

    async def check(self) -> None:
        await require_broker(LOOPBACK, self._port)
