"""What becomes of a page that reclaim picked; one small file per policy, and the registry."""

from __future__ import annotations

from tracereplay.errors import unknown_name
from tracereplay.policies import (
    ghost_swapfile,
    keep_on_reject,
    mixed_lru,
    no_writeback,
    no_zswap,
    ratio_cutoff,
    shrinker,
    store_raw,
    store_raw_keep,
    swap_on_reject,
    unlimited_memory,
    vswap,
    zram,
)
from tracereplay.policies.base import Policy

POLICIES: dict[str, Policy] = {
    module.POLICY.name: module.POLICY
    for module in (
        no_zswap,
        swap_on_reject,
        keep_on_reject,
        store_raw,
        store_raw_keep,
        no_writeback,
        ghost_swapfile,
        mixed_lru,
        ratio_cutoff,
        shrinker,
        vswap,
        zram,
        unlimited_memory,
    )
}


BASELINE = no_zswap.POLICY.name  # what zswap is compared with
BOUND = unlimited_memory.POLICY.name  # what no policy can beat
SWAP_TO_ZRAM = zram.POLICY.name  # what plain swap is where the device is zram


def find_policy(name: str) -> Policy:
    """Return a policy by name.

    Raises
    ------
    SettingsError
        There is none of this name; the nearest are offered.
    """
    if name not in POLICIES:
        raise unknown_name("policy", name, list(POLICIES))
    return POLICIES[name]


__all__ = ["BASELINE", "BOUND", "POLICIES", "SWAP_TO_ZRAM", "Policy", "find_policy"]
