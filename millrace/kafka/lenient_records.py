"""Records whose header names are not UTF-8: readable, where the Kafka client would give up its whole batch.

Kafka promises that a header's name is UTF-8, and no broker checks it. aiokafka (0.14) raises
UnicodeDecodeError in the middle of a batch, so that one such record stops everybody who reads its partition.
Here the rest of that batch is read by aiokafka's own pure Python reader, with names that can't be decoded
spelled out (`\\xff`); the record says so (`OddNames`), and consumers park it.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import _MemoryRecordsPy

_MAGIC = 16  # index of the byte that says how a batch is laid out


ODD_NAME = "a header name of this record is not UTF-8"
"""The name of the header that says so."""


class LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]  # final: nothing else tells batches apart
    """What a fetch brought, as aiokafka's MemoryRecords; its batches survive odd header names."""

    def next_batch(self, *_: Any) -> Any:
        """The next batch; as in aiokafka, to be asked for after `has_next`."""
        data = self._next_slice
        batch = super().next_batch()
        return _LenientBatch(batch, data) if data is not None and data[_MAGIC] >= 2 else batch


class _LenientBatch:
    """A batch as it is, until a record can't be decoded; from there on the pure Python reader's."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # a control record, whose batch is not iterated

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                read += 1
                yield record
        except UnicodeDecodeError:
            yield from self._rest(read)

    def _rest(self, read: int) -> Iterator[Any]:
        again = _DefaultRecordBatchPy(bytearray(self._data))
        records = iter(again)
        again._buffer = _Spelled(again._buffer)  # uncompressed by now
        for number, record in enumerate(records):
            if number >= read:
                yield _marked(record, again._buffer)


class _Spelled(bytearray):
    """Bytes that decode to text whatever they are; `odd`: whether something had to be spelled out."""

    def __init__(self, data: Any, parent: "_Spelled | None" = None) -> None:
        super().__init__(data)
        self._parent = parent
        self.odd = False

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Spelled(found, self) if isinstance(place, slice) else found

    def decode(self, *_: Any) -> str:
        try:
            return bytes(self).decode()
        except UnicodeDecodeError:
            if self._parent is not None:
                self._parent.odd = True
            return bytes(self).decode(errors="backslashreplace")


def _marked(record: _DefaultRecordPy, buffer: Any) -> Any:
    if not buffer.odd:
        return record
    buffer.odd = False
    headers = [*record.headers, (ODD_NAME, b"")]
    return _DefaultRecordPy(
        record.offset, record.timestamp, record.timestamp_type, record.key, record.value, headers
    )


def install() -> None:
    """Every consumer of this process reads so from here on. Harmless to repeat."""
    fetcher.MemoryRecords = LenientRecords
