"""Plain swap: the baseline."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="no-zswap",
    summary="plain swap: every page goes to the device",
    source="Linux without zswap: the baseline of every comparison",
    zswap=False,
)
