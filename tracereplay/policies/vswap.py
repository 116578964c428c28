"""Virtual swap: a slot on the device only for what is on the device."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="vswap",
    summary="store-raw, and a swap slot is taken only when a page goes to the device",
    source="Nhat Pham, virtual swap space, v3 of 8 Feb 2026 and its successors",
    incompressible="raw",
    late_slots=True,
)
