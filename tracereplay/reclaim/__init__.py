"""Which page leaves memory; one file per model, and the registry."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracereplay.errors import unknown_name

if TYPE_CHECKING:
    from tracereplay.replay.engine import Replay
    from tracereplay.replay.settings import Scenario


@dataclasses.dataclass(frozen=True)
class Reclaim:
    """A reclaim model: its compiled entry is imported when it is first asked for.

    Attributes
    ----------
    entry : "module:function" of the compiled entry
    textbook : capacity is exact, one page leaves per fault
    needs_next_use : the trace has to be read backwards first
    keeps_generations : its lists are those of generations.py, where a page goes whose write has ended
    walks_page_tables : it has to know where pages stand in page tables
    decides_by_statistics : with those of the cgroup as they were last flushed, so that an OOM kill can
        hang on when that was
    """

    name: str
    summary: str
    source: str
    entry: str
    textbook: bool = False
    needs_next_use: bool = False
    keeps_generations: bool = False
    walks_page_tables: bool = False
    decides_by_statistics: bool = False

    def replay(self, scenario: Scenario, **options: Any) -> Replay:
        """Return a replay by this model; `options` are those of Replay."""
        from tracereplay.replay.engine import Replay

        return Replay(
            scenario,
            self.load(),
            textbook=self.textbook,
            needs_next_use=self.needs_next_use,
            keeps_generations=self.keeps_generations,
            walks_page_tables=self.walks_page_tables,
            **options,
        )

    def load(self) -> Callable[..., Any]:
        """Return the compiled entry."""
        module, function = self.entry.split(":")
        entry: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return entry

    def load_charge(self) -> Callable[..., Any]:
        """Return the compiled entry that charges pages no trace touches."""
        charge: Callable[..., Any] = importlib.import_module(self.entry.split(":")[0]).charge_pages
        return charge


RECLAIM: dict[str, Reclaim] = {
    model.name: model
    for model in (
        Reclaim(
            "two-list",
            "the kernel's active and inactive list, with its stale statistics",
            "mm/vmscan.c, mm/workingset.c, mm/memcontrol.c",
            "tracereplay.reclaim.two_list:replay_two_list",
            decides_by_statistics=True,
        ),
        Reclaim(
            "mglru",
            "the kernel's multi-generational LRU, with page table walks and look-arounds",
            "mm/vmscan.c (lru_gen_*), mm/workingset.c, include/linux/mm_inline.h",
            "tracereplay.reclaim.mglru:replay_mglru",
            keeps_generations=True,
            walks_page_tables=True,
        ),
        Reclaim(
            "lru",
            "exact LRU, the textbook model",
            "Mattson et al., Evaluation techniques for storage hierarchies, 1970",
            "tracereplay.reclaim.lru:replay_lru",
            textbook=True,
        ),
        Reclaim(
            "opt",
            "the page used farthest ahead leaves: a bound, no kernel can know",
            "Belady, IBM Systems Journal 5(2), 1966",
            "tracereplay.reclaim.opt:replay_opt",
            textbook=True,
            needs_next_use=True,
        ),
    )
}


def find_reclaim(name: str) -> Reclaim:
    """Return a reclaim model by name.

    Raises
    ------
    SettingsError
        There is none of this name; the nearest are offered.
    """
    if name not in RECLAIM:
        raise unknown_name("reclaim model", name, list(RECLAIM))
    return RECLAIM[name]
