"""The builder that a read model needs: of the store, or of topics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millrace.kafka.topic_source import open_topic_source
from millrace.postgres.database import open_replay_pool
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild.copy_builder import CopyBuilder, OnMoved
from millrace.rebuild.store_copy_builder import StoreCopyBuilder
from millrace.rebuild.store_source import open_store_source
from millrace.rebuild.topic_copy_builder import TopicCopyBuilder


@asynccontextmanager
async def open_copy_builder(
    feed: Feed, copy: Copy, database_url: str, kafka: str, on_moved: OnMoved
) -> AsyncIterator[CopyBuilder]:
    """A builder of the feed's kind with what it needs. Raises SourceGone, KafkaError, psycopg.Error."""
    async with open_replay_pool(database_url, name=f"replay-{feed.model.name}", max_size=2) as pool:
        if feed.topics:
            async with open_topic_source(kafka, feed.topics) as topics:
                yield TopicCopyBuilder(feed=feed, copy=copy, pool=pool, on_moved=on_moved, source=topics)
        else:
            async with open_store_source(database_url, feed.registry) as store:
                yield StoreCopyBuilder(feed=feed, copy=copy, pool=pool, on_moved=on_moved, source=store)
