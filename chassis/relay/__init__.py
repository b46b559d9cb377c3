"""The relay, from the event store to its Kafka topic. Start reading at relay.py."""

from chassis.relay.partitioning import partition_of
from chassis.relay.relay import Relay, RelayState, RelayStatus

__all__ = ["Relay", "RelayState", "RelayStatus", "partition_of"]
