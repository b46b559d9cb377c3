"""Why a command can't do what was asked, or not to its end. A message is one line: what is wrong, what there
is, what to do."""

from millrace.domain.errors import MillraceError


class ToolError(MillraceError):
    """What was asked for can't be done. The message is one line: what is wrong, what there is, what to do."""


class ReplayError(ToolError):
    """The replay has ended; whatever it did so far stays, and the live copy was not touched."""


class SourceGone(ReplayError):
    """The events are not (or no longer) where they should be: a topic is missing, or lost its beginning or
    end."""


class OpenTransaction(ReplayError):
    """A topic can't be read to its end: a producer that is not a relay has a transaction open in it."""


class NotApplicable(ReplayError):
    """The read model fails on an event for a reason that trying again won't change."""


class AlreadyLive(ReplayError):
    """The read model has its live copy, so there is nothing to build."""


def first_line(error: Exception) -> str:
    """What an error says in its first line; its class when it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
