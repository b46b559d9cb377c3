"""Faults of what an event is worked on with, which say nothing about the event itself."""

import psycopg

from millrace.postgres.database import is_data_fault


def is_environmental(error: BaseException) -> bool:
    """Whether the database or the machine is at fault, so that the same event can succeed later.

    Of Postgres everything is environmental but what it says of the values that it was given: also a mistake
    of the deployment (a missing table, a missing right, a setting), which somebody will correct.
    """
    if isinstance(error, psycopg.Error):
        return not is_data_fault(error)
    return isinstance(error, MemoryError | OSError)  # OSError: a connection, a file, too many of either


def needs_less(error: BaseException) -> bool:
    """Whether a smaller batch may succeed where this one never will, although no event is at fault."""
    return isinstance(error, MemoryError)
