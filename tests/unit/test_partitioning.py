"""A key goes where every other Kafka client would send it."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from millrace.relay import partition_of


@given(st.binary(max_size=80), st.integers(min_value=1, max_value=200))
def test_a_key_has_the_partition_that_the_client_library_would_choose(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == DefaultPartitioner()(key, list(range(partitions)), [])


@pytest.mark.parametrize(
    ("key", "hash_"),
    [
        # From UtilsTest.testMurmur2 of Apache Kafka.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_a_key_has_the_partition_that_the_java_client_would_choose(key: bytes, hash_: int) -> None:
    assert partition_of(key, 1009) == (hash_ & 0x7FFFFFFF) % 1009
