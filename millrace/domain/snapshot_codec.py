"""How a kind of stream keeps its state between uses: how often, and as which JSON. See
docs/event-store.md."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class SnapshotCodec(Generic[S]):
    """A state as JSON and back.

    Raise `schema_version` whenever the same events fold into another state than before: a changed shape, and
    also a changed meaning. Snapshots of any other version are dropped. `decode` raises (whatever it likes)
    for what is no such state.
    """

    schema_version: int
    encode: Callable[[S], bytes]
    decode: Callable[[bytes], S]

    def __post_init__(self) -> None:
        if self.schema_version < 1:
            raise ValueError(f"schema_version is {self.schema_version}: versions start at 1")


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """A snapshot is taken whenever the stream has passed a multiple of `every` events."""

    every: int
    codec: SnapshotCodec[Any]

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every is {self.every}: a snapshot covers at least one event")

    def due(self, base: int, version: int) -> bool:
        """Whether a stream that was folded on from version `base` (0: its start) to `version` passed such a
        multiple."""
        return base // self.every < version // self.every


def json_codec(state: type[S], *, schema_version: int) -> SnapshotCodec[S]:
    """The codec of a state that is a dataclass or a pydantic model.

    A snapshot must come out as it went in: a field that was added since (with a default), renamed or removed
    is noticed even where somebody forgot to raise `schema_version`.
    """
    adapter: TypeAdapter[S] = TypeAdapter(state)

    def decode(data: bytes) -> S:
        decoded = adapter.validate_json(data)
        if adapter.dump_json(decoded) != data:
            raise ValueError(f"a state of another shape than {state.__name__} has")
        return decoded

    return SnapshotCodec(schema_version, adapter.dump_json, decode)
