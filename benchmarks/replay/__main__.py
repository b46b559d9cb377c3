"""How fast state is rebuilt from events.

    python -m benchmarks.replay [--events 1000000] [--rounds 3] [--only fold rebuild topic peer]

Makes the events (seeded, five an order), puts them into a store and into a topic of its own, and measures

    fold      the state of every order, beside reading the same rows and decoding them with orjson, and
              nothing else
    rebuild   the read model `orders` from the store, beside the same of its rows; with two processes
    topic     the read model `orders` from Kafka, beside a bare aiokafka consumer of the topic; with two
              processes
    peer      states and log, beside PyPI's `eventsourcing` on the same Postgres

Each run is a process of its own, which tells its peak of resident memory. Runs take turns; the ratios are
those of the medians. A million events take about a quarter of an hour and 3 GB of disk; 100,000 give about
the same ratios.
"""

import argparse
import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.replay import peer, store, topic
from benchmarks.replay.measuring import Measured, Work, measure
from benchmarks.replay.setting import Setting, prepare
from infra.testing import KafkaServer, PostgresServer, temporary_home


@dataclass(frozen=True, slots=True)
class Part:
    """Things that are measured in turns, and the ratios (name, above, below, aim) that count."""

    works: dict[str, Work]
    ratios: Sequence[tuple[str, str, str, float | None]]


PARTS = {
    "fold": Part(
        {"limit": store.limit_of_the_fold, "limit ahead": store.limit_of_the_fold_ahead, "fold": store.fold},
        [
            ("fold / limit", "fold", "limit", 0.5),
            ("fold / limit, reading ahead", "fold", "limit ahead", None),
        ],
    ),
    "rebuild": Part(
        {"limit": store.limit_of_the_rebuild, "rebuild": store.rebuild, "by two": store.rebuild_by_two},
        [("rebuild / limit", "rebuild", "limit", 0.35), ("two processes / one", "by two", "rebuild", 1.6)],
    ),
    "topic": Part(
        {
            "limit": topic.limit_of_the_topic,
            "rebuild": topic.rebuild_from_topic,
            "by two": topic.rebuild_from_topic_by_two,
        },
        [("rebuild / limit", "rebuild", "limit", 0.6), ("two processes / one", "by two", "rebuild", 1.6)],
    ),
    "peer": Part(
        {
            "fold": store.fold,
            "one by one": store.load,
            "log": store.read_log,
            "peer states": peer.peer_loads,
            "peer log": peer.peer_reads_log,
        },
        [
            ("states, all in one pass / peer", "fold", "peer states", 10),
            ("states, one by one / peer", "one by one", "peer states", None),
            ("log / peer", "log", "peer log", 10),
        ],
    ),
}


def run_part(name: str, part: Part, setting: Setting, rounds: int) -> None:
    """Measure in turns, print rates, memory and ratios."""
    measured: dict[str, list[Measured]] = {work: [] for work in part.works}
    for _ in range(rounds):
        for work_name, work in part.works.items():
            measured[work_name].append(measure(work, setting))
    medians = {work: statistics.median(one.rate for one in runs) for work, runs in measured.items()}
    print(f"\n{name}")
    for work_name, runs in measured.items():
        memory = max(one.memory for one in runs)
        print(f"  {work_name:<12} {medians[work_name]:>9,.0f} events/s   at most {memory:,.0f} MB")
    for label, above, below, aim in part.ratios:
        wanted = f"   aim {aim}" if aim else ""
        print(f"  {label}: {medians[above] / medians[below]:.2f}{wanted}", flush=True)


def main(options: argparse.Namespace) -> None:
    """Start a Kafka and a Postgres of our own, fill them, measure, throw them away."""
    with temporary_home() as home:
        servers, with_topic = (PostgresServer(home), KafkaServer(home)), "topic" in options.only
        setting = asyncio.run(prepare(*servers, options.events, with_topic=with_topic))
        if "peer" in options.only:
            peer.fill_peer(setting)
        print(f"{options.events:,} events, medians of {options.rounds} rounds", flush=True)
        for name in options.only:
            run_part(name, PARTS[name], setting, options.rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replay",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    main(parser.parse_args())
