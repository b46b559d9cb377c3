"""Apache Kafka as one process: a KRaft node that is broker and controller at once."""

import asyncio
import base64
import shutil
import uuid
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from infra.local.component import Component, Progress
from infra.local.errors import NotReady
from infra.local.home import Home
from infra.local.kafka_jars import java, kafka_jars
from infra.local.ports import LOOPBACK, Port
from infra.local.process import ProgramCommand
from infra.local.programs import run

JVM_OPTIONS = (
    "-Xms64m",
    "-Xmx384m",
    "-XX:+UseSerialGC",  # two cores and a small heap: the parallel collectors only cost memory
    "-XX:TieredStopAtLevel=1",  # starts faster; a local broker does not live long enough to earn C2
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    # Says "started" and names what it waits for, while all else stays quiet.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.utils.AppInfoParser=info",
)

SERVER_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # One node: nothing can be replicated.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    # Nobody here has transactions; an open one of somebody else holds its partition up for so long
    # (docs/consumers.md).
    "transaction.max.timeout.ms": "60000",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # Small machine: the defaults are meant for a dedicated server.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
    # Topics are copies of the event stores and kept forever (schemas/topics.py).
    "log.retention.ms": "-1",
    # A broker that crashed may register again after this time.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


class Kafka(Component):
    """An Apache Kafka broker without authentication on the loopback address."""

    stop_within = 30.0

    def __init__(self, *, name: str, home: Home, port: Port, controller_port: Port) -> None:
        super().__init__(name, home, port, controller_port)
        self.port = port.number
        self._controller_port = controller_port.number
        self._data = home.data(name)
        self._jars: Path | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        return self.bootstrap_servers

    def command(self) -> ProgramCommand:
        return ProgramCommand(
            self._java_command("kafka.Kafka", str(self._properties_file)), env={}, cwd=self._data
        )

    async def prepare(self, progress: Progress) -> None:
        """Fetches Kafka when it is missing, writes its configuration, formats an empty data directory."""
        self._jars = await kafka_jars(progress)
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._properties_file.write_text(
            "".join(f"{key}={value}\n" for key, value in self._properties().items())
        )
        if not (self._data / "log" / "meta.properties").exists():
            progress(self.name, "formatting the data directory")
            cluster_id = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()
            format_storage = ("format", "--cluster-id", cluster_id, "--config", str(self._properties_file))
            await run(self.name, self._java_command("kafka.tools.StorageTool", *format_storage))

    async def wipe(self) -> None:
        """Stops it and deletes all of its data, topics and offsets: the next start is that of a new Kafka."""
        await self.stop()
        await asyncio.to_thread(shutil.rmtree, self._data, ignore_errors=True)

    async def check(self) -> None:
        await require_broker(LOOPBACK, self.port)

    @property
    def _properties_file(self) -> Path:
        return self._data / "server.properties"

    def _properties(self) -> dict[str, str]:
        return SERVER_PROPERTIES | {
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self._controller_port}",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self._controller_port}",
            "log.dirs": str(self._data / "log"),
        }

    def _java_command(self, *arguments: str) -> list[str | Path]:
        assert self._jars is not None, "prepare() sets the jars"
        return [java(), *JVM_OPTIONS, "-cp", f"{self._jars}/*", *arguments]


async def require_broker(host: str, port: int) -> None:
    """Returns when the broker works; raises NotReady with what is missing."""
    # A plain connection first: the client library logs an error for each port that refuses it.
    await _require_open_port(host, port)
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{host}:{port}", request_timeout_ms=3000)
    try:
        await admin.start()
        # A broker lists itself once the controller lets it work.
        if not (await admin.describe_cluster())["brokers"]:
            raise NotReady("the broker is not in the cluster yet")
    except KafkaError as error:
        raise NotReady(str(error)) from error
    finally:
        await admin.close()


async def _require_open_port(host: str, port: int) -> None:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        raise NotReady("the port is closed") from None
    try:
        # A port that is forwarded accepts everybody, and hangs up when nobody listens behind it. A broker is
        # silent.
        async with asyncio.timeout(0.2):
            await reader.read(1)
        raise NotReady("nobody listens behind the port")
    except ConnectionError:
        raise NotReady("nobody listens behind the port") from None
    except TimeoutError:
        return
    finally:
        writer.close()
