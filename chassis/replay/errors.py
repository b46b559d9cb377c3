"""Why a replay can't be done, or not to its end. The message is one line: what is wrong, what there is, what to do."""

from chassis.tools import ToolError


class ReplayError(ToolError):
    """The replay has ended; whatever it did so far stays, and the live copy was not touched."""


class SourceGone(ReplayError):
    """The events are not (or no longer) where they should be: a topic is missing, or lost its beginning or end."""


class NotApplicable(ReplayError):
    """The read model fails on an event for a reason that trying again won't change."""


class AlreadyLive(ReplayError):
    """The read model has its live copy, so there is nothing to build."""
