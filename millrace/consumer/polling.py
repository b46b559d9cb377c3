"""The Kafka client under FastStream: a poll that waits, and that hands out nothing after a fault."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from faststream.kafka import KafkaBroker

from millrace.kafka import lenient_records

lenient_records.install()  # aiokafka has no setting for it
_logger = logging.getLogger("millrace.consumer.faststream")
# FastStream warns at every start that it creates no topics: that is what we asked for.
_logger.addFilter(lambda record: "Make sure the topics exist" not in record.getMessage())


class PollingConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """`getmany` differs in two things.

    It waits until there are records: FastStream would sleep after an empty poll, which is a delay.

    After an error it reports a fault and never returns. aiokafka may have lost records that it had fetched
    (a corrupt record in the second half of a fetch drops the first half, and the position has moved), and
    FastStream would go on behind them.
    """

    def __init__(self, *args: Any, on_fault: Callable[[BaseException], None], **options: Any) -> None:
        super().__init__(*args, **options)
        self._on_fault = on_fault
        self.handed: dict[TopicPartition, int] = {}
        """The offset behind the last record that was handed out. It moves with the position, which may be
        further: behind what no record comes of."""

    async def getmany(self, *partitions: Any, timeout_ms: int = 0, max_records: int | None = None) -> Any:
        records: Any = None
        try:
            while not records:
                records = await super().getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
            # No await between: nobody sees the position without this.
            self.handed.update(
                {partition: some[-1].offset + 1 for partition, some in records.items() if some}
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this client, and is reported there
            self._on_fault(error)
            await asyncio.Event().wait()  # FastStream's task is cancelled when the client is stopped
        return records


class PollingBroker(KafkaBroker):
    """A FastStream broker for one consumer, which builds a PollingConsumer. Nothing connects before
    `start`."""

    def __init__(
        self, bootstrap_servers: str, *, client_id: str, on_fault: Callable[[BaseException], None]
    ) -> None:
        super().__init__(
            bootstrap_servers,
            client_id=client_id,
            consumer_only=True,  # neither a producer nor an admin client
            allow_auto_create_topics=False,
            apply_types=False,  # no validation of arguments: the handler gets the raw records
            graceful_timeout=None,  # Membership ends the batch itself, within its own deadline
            logger=_logger,
            log_level=logging.DEBUG,
        )
        self._client_fault = on_fault

    async def _connect(self) -> Callable[..., AIOKafkaConsumer]:
        builder = await super()._connect()
        options = builder.keywords if isinstance(builder, partial) else {}
        self.config.broker_config.builder = partial(PollingConsumer, on_fault=self._client_fault, **options)
        return self.config.broker_config.builder
