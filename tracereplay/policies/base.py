"""What a policy answers: one frozen record, read by the shared loop at each decision point."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args, get_type_hints

from tracereplay.errors import SettingsError
from tracereplay.units import PAGE_BYTES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Policy:
    """What becomes of a page that reclaim picked; one value per decision point.

    Attributes
    ----------
    name : as typed, and as it stands in users' tables
    summary : one line for `tracereplay policies`
    source : where it comes from, one sentence
    zswap : False sends every page to the device (or nowhere)
    incompressible : a page that does not shrink: goes to the device, stays in memory, is stored
        raw, is linked into the zswap order without a copy, or is treated as the kernel's release
        does: raw since 6.18, to the device before
    cutoff_bytes : results of this size and above count as incompressible
    pool_full : a page that meets a full pool, or memory.zswap.max: goes to the device, or stays in
        memory
    writeback : zswap may write entries back to the device
    backing : there is a device behind zswap
    shrinker : the dynamic shrinker writes back under memory pressure
    late_slots : a page in zswap has no swap slot (virtual swap)
    synchronous : the device is memory (zram): no swap cache, no readahead, no writeback
    reclaim : False keeps every page in memory: the bound
    """

    name: str
    summary: str
    source: str
    zswap: bool = True
    incompressible: Literal["device", "keep", "raw", "link", "kernel"] = "device"
    cutoff_bytes: int = 4096
    pool_full: Literal["device", "keep"] = "device"
    writeback: bool = True
    backing: bool = True
    shrinker: bool = False
    late_slots: bool = False
    synchronous: bool = False
    reclaim: bool = True

    def __post_init__(self) -> None:
        for name, value in (("incompressible", self.incompressible), ("pool_full", self.pool_full)):
            known = get_args(get_type_hints(Policy)[name])
            if value not in known:
                raise SettingsError(
                    f"policy {self.name}: {name} is {value!r}; it is one of {', '.join(known)}"
                )
        if not 1 <= self.cutoff_bytes <= PAGE_BYTES:
            raise SettingsError(
                f"policy {self.name}: cutoff_bytes is {self.cutoff_bytes}; 1 to {PAGE_BYTES}"
            )
