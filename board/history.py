"""What the board has seen in the last 24 hours: a SQLite file of its own, fine for now and coarse for then.

1 s for 15 minutes, 10 s for an hour, 1 minute for a day. A coarser bucket holds the worst of what fell into
it (the greatest age, the greatest count) and the mean of the rates: a peak of two seconds is still there
tomorrow. A bucket without a pass is missing, and drawn as a gap: what wasn't seen isn't invented.

The ages of one stage's partitions are one value (float32, NaN = unknown), so that a pass writes a row a stage
and not a row a partition: 20 stages of 12 partitions are 25 MB a day, and deleted rows are used again. One
transaction a pass; WAL, so that viewers read while the collector writes.
"""

import sqlite3
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path

VERSION = 1


@dataclass(frozen=True)
class Level:
    """A resolution and how long it is kept, both in seconds."""

    step: int
    kept: int

    @property
    def table(self) -> str:
        return f"sample_{self.step}"


LEVELS = (Level(1, 15 * 60), Level(10, 60 * 60), Level(60, 24 * 60 * 60))


@dataclass(frozen=True)
class Sample:
    """One stage at one pass.

    seconds            age of the oldest event that has not passed, by partition; None where it isn't known
    pending            events that have not passed; None when not known
    rate_in, rate_out  events a second that arrived and that passed; None when not known
    """

    series: str
    seconds: Sequence[float | None]
    pending: int | None = None
    rate_in: float | None = None
    rate_out: float | None = None


@dataclass(frozen=True)
class Mark:
    """Something that happened to a series: a rebalance, a restart, a new state."""

    at: float
    series: str
    kind: str
    text: str


@dataclass
class Seen:
    """A series over time: `at[i]` (seconds since 1970, start of the bucket) belongs to the i-th of everything
    else.

    `seconds[i]` are the ages by partition; an older bucket may know fewer partitions than a younger one.
    """

    step: int
    at: list[int] = field(default_factory=list)
    seconds: list[list[float | None]] = field(default_factory=list)
    pending: list[int | None] = field(default_factory=list)
    rate_in: list[float | None] = field(default_factory=list)
    rate_out: list[float | None] = field(default_factory=list)


Bucket = tuple[str, int, "array[float]", int | None, float | None, float | None, int]
"""A row: series, its beginning, ages by partition, pending, rate in, rate out, how many passes are in it."""


class History:
    """The file. Its methods block for some milliseconds and may be called from any thread."""

    def __init__(self, path: Path, levels: Sequence[Level] = LEVELS) -> None:
        """Opens the file, or makes it. One of another version of this program is begun again: it is a
        cache."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._levels = levels
        self._buckets: dict[tuple[int, str], Bucket] = {}  # of the last pass, by step and series
        self._lock = threading.Lock()  # one connection: a transaction and a query must not mix
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def record(self, now: float, samples: Iterable[Sample], marks: Iterable[Mark] = ()) -> None:
        """Keeps one pass, and forgets what is older than each level keeps. `now`: seconds since 1970."""
        found = list(samples)
        with self._lock:
            with _transaction(self._db):
                buckets = self._write(now, found, marks)
            self._buckets = buckets  # only what is in the file

    def seen(self, series: str, since: float, until: float) -> Seen:
        """One series, at the finest level that reaches back to `since`. Missing buckets are missing."""
        level = self._level(until - since)
        with self._lock:
            rows = self._db.execute(
                f"SELECT at, seconds, pending, rate_in, rate_out FROM {level.table}"  # noqa: S608
                " WHERE series = ? AND at > ? AND at <= ? ORDER BY at",
                (series, since - level.step, until),
            ).fetchall()
        result = Seen(level.step)
        for at, ages, pending, rate_in, rate_out in rows:
            result.at.append(at)
            result.seconds.append([_known(age) for age in _ages(ages)])
            result.pending.append(pending)
            result.rate_in.append(rate_in)
            result.rate_out.append(rate_out)
        return result

    def series(self) -> list[str]:
        """Everything that was seen in the last day."""
        with self._lock:
            rows = self._db.execute(f"SELECT DISTINCT series FROM {self._levels[-1].table} ORDER BY 1")  # noqa: S608
            return [name for (name,) in rows]

    def marks(self, since: float, until: float, series: str | None = None) -> list[Mark]:
        """What happened, oldest first; the newest 500 of it."""
        with self._lock:
            rows = self._db.execute(
                "SELECT at, series, kind, text FROM mark"
                " WHERE at > ?1 AND at <= ?2 AND (?3 IS NULL OR series = ?3) ORDER BY at DESC LIMIT 500",
                (since, until, series),
            ).fetchall()
        return [Mark(*row) for row in reversed(rows)]

    def _write(
        self, now: float, found: Sequence[Sample], marks: Iterable[Mark]
    ) -> dict[tuple[int, str], Bucket]:
        buckets: dict[tuple[int, str], Bucket] = {}
        for level in self._levels:
            at = int(now) // level.step * level.step
            rows = [self._merged(level, at, sample) for sample in found]
            self._db.executemany(
                f"INSERT OR REPLACE INTO {level.table} VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                ((row[0], row[1], row[2].tobytes(), *row[3:]) for row in rows),
            )
            buckets |= {(level.step, row[0]): row for row in rows}
            self._db.execute(f"DELETE FROM {level.table} WHERE at <= ?", (now - level.kept,))  # noqa: S608
        self._db.executemany(
            "INSERT OR IGNORE INTO mark VALUES (?, ?, ?, ?)",
            [(mark.at, mark.series, mark.kind, mark.text) for mark in marks],
        )
        self._db.execute("DELETE FROM mark WHERE at <= ?", (now - self._levels[-1].kept,))
        return buckets

    def _level(self, span: float) -> Level:
        return next((level for level in self._levels if level.kept >= span), self._levels[-1])

    def _merged(self, level: Level, at: int, sample: Sample) -> Bucket:
        """The bucket that begins `at`, with this pass in it."""
        ages = array("f", (nan if age is None else age for age in sample.seconds))
        before = self._bucket(level, at, sample.series)
        if before is None:
            return (sample.series, at, ages, sample.pending, sample.rate_in, sample.rate_out, 1)
        _, _, worst, pending, rate_in, rate_out, passes = before
        return (
            sample.series,
            at,
            _worst(worst, ages),
            _greater(pending, sample.pending),
            _mean(rate_in, sample.rate_in, passes),
            _mean(rate_out, sample.rate_out, passes),
            passes + 1,
        )

    def _bucket(self, level: Level, at: int, series: str) -> Bucket | None:
        """What is in the file for it; the last pass's buckets are known without asking."""
        known = self._buckets.get((level.step, series))
        if known is not None and known[1] <= at:
            return known if known[1] == at else None
        row = self._db.execute(
            f"SELECT seconds, pending, rate_in, rate_out, passes FROM {level.table}"  # noqa: S608
            " WHERE series = ? AND at = ?",
            (series, at),
        ).fetchone()
        return None if row is None else (series, at, _ages(row[0]), *row[1:])

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last seconds of a cache
        self._db.execute("PRAGMA busy_timeout = 2000")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        with _transaction(self._db):
            if version not in (0, VERSION):
                tables = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                for (name,) in tables:
                    self._db.execute(f'DROP TABLE "{name}"')
            for level in self._levels:
                self._db.execute(
                    f"CREATE TABLE IF NOT EXISTS {level.table} (series TEXT, at INTEGER, seconds BLOB NOT"
                    f" NULL,"
                    " pending INTEGER, rate_in REAL, rate_out REAL, passes INTEGER NOT NULL,"
                    " PRIMARY KEY (series, at)) WITHOUT ROWID"
                )
                self._db.execute(f"CREATE INDEX IF NOT EXISTS {level.table}_at ON {level.table} (at)")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS mark (at REAL, series TEXT, kind TEXT, text TEXT NOT NULL,"
                " PRIMARY KEY (at, series, kind)) WITHOUT ROWID"
            )
            self._db.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _ages(stored: bytes) -> "array[float]":
    ages = array("f")
    ages.frombytes(stored)
    return ages


def _known(age: float) -> float | None:
    return None if isnan(age) else age


def _worst(one: "array[float]", other: "array[float]") -> "array[float]":
    """The greater age of each partition; a known one before an unknown one."""
    size = max(len(one), len(other))
    pairs = zip(*(ages + array("f", [nan] * (size - len(ages))) for ages in (one, other)), strict=True)
    return array("f", (b if isnan(a) or b > a else a for a, b in pairs))


def _greater(one: int | None, other: int | None) -> int | None:
    known = [value for value in (one, other) if value is not None]
    return max(known, default=None)


def _mean(mean: float | None, value: float | None, passes: int) -> float | None:
    """The mean of passes + 1 values. An unknown value leaves the mean as it was."""
    if mean is None or value is None:
        return value if mean is None else mean
    return (mean * passes + value) / (passes + 1)
