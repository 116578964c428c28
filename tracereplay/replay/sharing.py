"""One replay for scenarios that nothing has told apart yet.

Two policies do the same until the first page that one of them treats otherwise. Until then one
replay, the leader, stands for all. Where the loop takes into account what they may differ in, it
notes the decision (state.py:DECIDED_AT). Soon after, those whose answers differ part: they go back to
a state that was kept, and replay what came since themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import Any, Generic, Protocol, TypeVar

from tracereplay.replay.engine import Replay
from tracereplay.replay.state import DECIDED_AT


class Member(Protocol):
    """A replay with what is made of its events; both are told when another one stood for it."""

    @property
    def replay(self) -> Replay:
        """The replay of this scenario."""

    def continue_from(self, other: Any) -> None:
        """Take over the state of another member, to go on by itself."""

    def take_results(self, other: Any) -> None:
        """Take over what another member found."""


M = TypeVar("M", bound=Member)
# feed(member, batch, row) replays a batch from that row on.
Feed = Callable[[M, Any, int], object]
_LONGEST_INTERVAL = 4  # batches


class Group(Generic[M]):
    """Members that one replay stands for: the first one's, the leader's.

    The second member holds a copy of the leader's state at an earlier row. When members part, the new
    group begins from that copy and replays the rows since. The copy is renewed after one batch, then
    two, then four, because copying takes as long as many faults.
    """

    def __init__(self, members: Iterable[M]) -> None:
        # Virtual swap gives no slot where the others do: it can go on from them, not they from it.
        self.members = sorted(members, key=lambda each: int(_settings(each)["late_slots"]))
        self.seconds = 0.0  # for what was replayed last
        # With how many rows each has. The second member stands in the first, at row `_base`.
        self._batches: list[tuple[Any, int]] = []
        self._base = 0
        self._nth = 0  # where the leader stands
        self._row = 0
        self._is_kept = False
        self._interval = 1

    @property
    def leader(self) -> M:
        """The member whose replay stands for all."""
        return self.members[0]

    @property
    def held(self) -> list[M]:
        """Members whose replays have to hear of new pages."""
        return self.members[: 1 + self._is_kept]

    def add(self, batch: Any, rows: int) -> None:
        """Take a batch, to be replayed by run()."""
        if not self.leader.replay.finished:  # nor will it be: an OOM kill ended it
            self._batches = []
            return
        if len(self.members) == 1:
            self._keep_from_here()
        elif len(self._batches) >= self._interval:
            self._interval = min(2 * self._interval, _LONGEST_INTERVAL)
            self._keep_from_here()
        self._batches.append((batch, rows))

    def run(self, feed: Feed[M]) -> list[Group[M]]:
        """Replay what was added, until members part; return the groups that have rows before them."""
        began = time.perf_counter()
        replay = self.leader.replay
        if len(self.members) > 1 and not self._is_kept and self._batches:
            self.members[1].continue_from(self.leader)
            self._is_kept = True
        replay.watch([each.replay for each in self.members])
        parted: Group[M] | None = None
        while parted is None and replay.finished and self._nth < len(self._batches):
            batch, rows = self._batches[self._nth]
            feed(self.leader, batch, self._row)
            self._row = replay.position
            if self._row >= rows:
                self._nth += 1
                self._row = 0
            parted = self._part(int(_settings(self.leader)["decided"]))
        self.seconds = time.perf_counter() - began
        return [] if parted is None else [self, parted]

    def finish(self) -> None:
        """Hand what the leader found to all."""
        for each in self.members[1:]:
            each.take_results(self.leader)

    def _keep_from_here(self) -> None:
        self._batches = self._batches[self._nth :]
        self._nth = 0
        self._base = self._row
        self._is_kept = False

    def _part(self, decided: int) -> Group[M] | None:
        """Return the group of those whose answers differ from the leader's, ready to begin."""
        names = [name for name, decision in DECIDED_AT.items() if decision & decided]
        answers = [[int(_settings(each)[name]) for name in names] for each in self.members]
        differs = [its != answers[0] for its in answers]
        if not any(differs):
            return None
        kept = self.members[1]
        # What they decide among themselves comes out when they get there.
        parted = Group(each for each, its in zip(self.members, differs, strict=True) if its)
        parted._batches = list(self._batches)
        parted._base = parted._row = self._base
        self.members = [each for each, its in zip(self.members, differs, strict=True) if not its]
        if parted.leader is kept:
            self._keep_from_here()
        else:
            parted.leader.continue_from(kept)
        return parted


def group(members: Sequence[M], same: Callable[[M], object]) -> list[Group[M]]:
    """Return members that begin alike, together; same(member) says what they are fed with."""
    alike: dict[Any, list[M]] = {}
    for each in members:
        alike.setdefault((each.replay.beginning(), same(each)), []).append(each)
    return [Group(together) for together in alike.values()]


def feed_all(groups: list[Group[M]], batch: Any, rows: int, feed: Feed[M], pool: Executor) -> None:
    """Replay a batch with every group; `groups` grows by those that part."""
    for each in groups:
        each.add(batch, rows)
    # What took longest comes first, so that no worker is left alone with it.
    waiting = sorted(groups, key=lambda each: -each.seconds)
    running: set[Future[list[Group[M]]]] = {pool.submit(each.run, feed) for each in waiting}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for going in [each for task in done for each in task.result()]:
            if going not in groups:
                groups.append(going)
            running.add(pool.submit(going.run, feed))


def _settings(member: Member) -> Any:
    return member.replay.machine[0]
