"""The relay, from the event store to its Kafka topic. Start reading at relay.py."""

from millrace.kafka.partitioning import partition_of
from millrace.relay.relay import Relay
from millrace.relay.status import RelayState, RelayStatus

__all__ = ["Relay", "RelayState", "RelayStatus", "partition_of"]
