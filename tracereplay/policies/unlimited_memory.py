"""The bound above: nothing ever leaves memory."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="unlimited-memory",
    summary="no limit: the bound no policy can beat",
    source="bound",
    reclaim=False,
)
