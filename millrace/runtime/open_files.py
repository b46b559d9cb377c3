"""How many files, sockets among them, this process may have open."""

import resource


def allow_open_files(wanted: int) -> int:
    """Raises the process' limit to `wanted` if it is lower, as far as the system permits; returns the
    limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return raised
