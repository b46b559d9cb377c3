"""Which topic it is: the id that Kafka gives a topic when it is created.

A name says little: a topic that was deleted and created again has the same one, and so has the topic of
another Kafka. aiokafka 0.14 speaks version 5 of the metadata request; ids came with version 10 (KIP-516). So
the request is declared here, for aiokafka's own connections:
https://kafka.apache.org/protocol.html#The_Messages_Metadata
"""

import asyncio
from collections.abc import Iterable
from io import BytesIO
from uuid import UUID

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

TopicIds = dict[str, UUID | None]
"""Topic -> its id. One that does not exist is left out; None: the broker knows no ids (Kafka before 3.1)."""

_ANSWER = 10.0  # seconds in which the broker must have answered
_UNKNOWN_TOPIC = 3  # error code
_NO_ID = UUID(int=0)


async def topic_ids(
    client: AIOKafkaClient, topics: Iterable[str], *, group: ConnectionGroup = ConnectionGroup.DEFAULT
) -> TopicIds:
    """The ids of `topics`, asked of a broker now. Creates no topic. Raises KafkaError.

    `group`: the connection to use. A broker answers one request of a connection after the other, so the
    question waits there behind whatever is under way, a long poll for instance.
    """
    names, node = list(topics), client.get_random_node()
    if node is None:
        raise KafkaConnectionError("no broker is known")
    try:
        async with asyncio.timeout(_ANSWER):
            answer = await client.send(node, _TopicIdsRequest(names), group=group)
    except TimeoutError:
        raise KafkaTimeoutError(f"no answer about topics within {_ANSWER:.0f} s") from None
    except NotImplementedError:  # aiokafka's way to say that the broker does not speak this version
        return dict.fromkeys(names)
    found: TopicIds = {}
    for error, name, topic_id, *_ in answer.topics:
        if error not in (0, _UNKNOWN_TOPIC):
            raise for_code(error)(f"topic {name}")
        if error == 0:
            found[name] = topic_id if topic_id != _NO_ID else None
    return found


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]  # aiokafka has no types
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


_TEXT = CompactString("utf-8")
_NODES = CompactArray(Int32)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields)
            ),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", _NODES),
                        ("isr", _NODES),
                        ("offline_replicas", _NODES),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIdsRequest(Request[_MetadataRequest]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        return request_struct_class([(_NO_ID, name, {}) for name in self._topics], False, False, {})
