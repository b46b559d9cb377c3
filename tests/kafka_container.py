"""Apache Kafka in a container of its own, as compose.yaml describes it.

testcontainers' own Kafka module takes Confluent's images only.
"""

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from infra.compose.project import Project
from infra.local.ports import LOOPBACK
from infra.topology import free_topology

STARTED = LogMessageWaitStrategy("Kafka Server started")


class KafkaContainer(DockerContainer):
    """A KRaft node that is broker and controller at once, on a free port of this machine.

    with KafkaContainer().waiting_for(STARTED) as kafka:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)

    The port is chosen before the start: the broker knows it and keeps it through a restart. Topics are
    not created automatically (millrace.kafka.topics.ensure_topics).
    """

    def __init__(self) -> None:
        kafka = Project(free_topology()).services["kafka"]
        super().__init__(kafka["image"])
        self.with_envs(**kafka["environment"])
        (port,) = kafka["ports"]
        self.with_bind_ports(port["target"], int(port["published"]))
        self.bootstrap_servers = f"{LOOPBACK}:{port['published']}"
