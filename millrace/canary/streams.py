"""The streams of canaries: one for each partition, so that none goes unseen."""

from functools import lru_cache
from itertools import count

from millrace.kafka.partitioning import partition_of


@lru_cache(maxsize=64)
def canary_streams(topic: str, partitions: int) -> tuple[str, ...]:
    """Partition -> the id of its stream: the first of `canary-<topic>-<n>` that the partitioner puts there.

    The topic is in the name because anyone who hears two topics counts the versions of streams by their ids.
    """
    streams: dict[int, str] = {}
    for number in count():
        if len(streams) == partitions:
            break
        name = f"canary-{topic}-{number}"
        streams.setdefault(partition_of(name.encode(), partitions), name)
    return tuple(streams[partition] for partition in range(partitions))
