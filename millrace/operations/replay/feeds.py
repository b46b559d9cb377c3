"""Read models by their names, for commands."""

from millrace.operations.definition import ServiceDefinition
from millrace.read_models.feed import Feed
from millrace.runtime.errors import ToolError


def feed_called(definition: ServiceDefinition, name: str) -> Feed:
    """The feed of the read model called `name`. Raises ToolError, with the names there are, for any other."""
    for feed in definition.feeds:
        if feed.model.name == name:
            return feed
    names = ", ".join(feed.model.name for feed in definition.feeds) or "none"
    raise ToolError(f"no read model {name!r}; there are: {names}")
