"""Python's cyclic garbage collector, for processes that hold many events for a short while."""

import gc

_YOUNG = 200_000  # objects: more than a batch of records makes
_GENERATIONS = 20


def spare_batches() -> None:
    """Make collections rare in this process, and leave out of them all that is loaded by now.

    By default the collector looks again and again through each batch, whose objects have no cycles and are
    about to be freed by their reference counts: a third of the time of a rebuild from a topic. For replays,
    not for servers: a collection that comes is long, up to 20 ms. Call it when everything is imported.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _GENERATIONS, _GENERATIONS)
