"""What happened between two passes: rebalances, new leaders, topics that were replaced, servers that went and
came."""

from collections import Counter, deque
from collections.abc import Sequence
from uuid import UUID

from board.document import Mark
from board.measures import REBALANCING
from board.observations import MemberView, TopicPartition, Views
from board.states import Judge
from board.store_stages import newest_cursor

KEPT = 200


class Annotations:
    """Compares each pass with the one before."""

    def __init__(self) -> None:
        self.judge = Judge()  # for builds: their keys come and go apart from the paths'
        self._marks: deque[Mark] = deque(maxlen=KEPT)
        self._rebalances: Counter[str] = Counter()
        self._before: Views | None = None
        self._topics: dict[
            str, UUID | None
        ] = {}  # the last one of each name: it may be away for a few passes

    @property
    def marks(self) -> list[Mark]:
        """The latest ones, oldest first."""
        return list(self._marks)

    def rebalances(self, group: str) -> int:
        """How many of this group the board saw: its members or their partitions changed."""
        return self._rebalances[group]

    def observe(self, views: Views) -> None:
        """Call it once a pass."""
        before, self._before = self._before, views
        if before is None:
            self._topics = (
                {name: topic.id for name, topic in views.kafka.topics.items()} if views.kafka else {}
            )
            return
        self._sources(before, views)
        self._stores(before, views)
        self._leaders(before, views)
        self._take_overs(before, views)
        self._kafka(before, views)

    def _mark(self, views: Views, kind: str, subject: str, text: str) -> None:
        self._marks.append(
            Mark.model_validate({"at": views.wall, "kind": kind, "subject": subject, "text": text})
        )

    def _sources(self, before: Views, now: Views) -> None:
        for name, seen in now.seen.items():
            was = before.seen.get(name)
            if was is not None and was.fresh != seen.fresh:
                self._mark(
                    now, "source", name, "answers again" if seen.fresh else f"does not answer: {seen.problem}"
                )

    def _stores(self, before: Views, now: Views) -> None:
        for service, store in now.stores.items():
            old = before.stores.get(service)
            if old is None or (old.refusal is None) == (store.refusal is None):
                continue
            held = store.refusal is not None and store.refusal.held
            refuses = "lets commands wait" if held else "refuses commands"
            text = f"{refuses}: {store.refusal.reason}" if store.refusal else "takes commands again"
            self._mark(now, "store", service, text)

    def _leaders(self, before: Views, now: Views) -> None:
        for service, store in now.stores.items():
            if service not in before.stores:
                continue
            for topic in {row.topic for row in store.cursors}:
                new, old = newest_cursor(store, topic), newest_cursor(before.stores[service], topic)
                if new and old and new.fencing_token != old.fencing_token:
                    self._mark(
                        now, "leader", service, f"another relay leads, fencing token {new.fencing_token}"
                    )

    def _take_overs(self, before: Views, now: Views) -> None:
        for service, store in now.stores.items():
            old = before.stores.get(service)
            if old is None:
                continue
            known = {(one.model, one.version, one.since) for one in old.copies if one.copy == "live"}
            for one in store.copies:
                if one.copy == "live" and (one.model, one.version, one.since) not in known:
                    text = f"another copy of version {one.version} is live"
                    self._mark(now, "take-over", f"{service}/{one.model}", text)

    def _kafka(self, before: Views, now: Views) -> None:
        if before.kafka is None or now.kafka is None or before.kafka is now.kafka:
            return
        for name, topic in now.kafka.topics.items():
            if self._topics.setdefault(name, topic.id) != topic.id:
                self._topics[name] = topic.id
                self._mark(now, "topic", name, "was replaced by another topic of that name")
        for name in before.kafka.topics.keys() - now.kafka.topics.keys():
            self._mark(now, "topic", name, "does not exist any more")
        for name, group in now.kafka.groups.items():
            old = before.kafka.groups.get(name)
            if old is None:
                continue
            begins = group.state in REBALANCING and old.state not in REBALANCING
            unseen = old.state not in REBALANCING and _assigned(old.members) != _assigned(group.members)
            if begins or unseen:
                self._rebalances[name] += 1
                self._mark(now, "rebalance", name, f"{len(group.members)} members")
            if group.commits is old.commits:
                continue
            for place, offset in group.commits.items():
                if offset < old.commits.get(place, 0):
                    text = f"partition {place[1]} of {place[0]}: from {old.commits[place]} to {offset}"
                    self._mark(now, "moved back", name, text)


def _assigned(members: Sequence[MemberView]) -> dict[str, frozenset[TopicPartition]]:
    return {one.id: one.partitions for one in members}
