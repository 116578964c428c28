"""Refused pages go to the device at once, past older pages that stay."""

from __future__ import annotations

from tracereplay.policies.base import Policy

POLICY = Policy(
    name="swap-on-reject",
    summary="a refused page goes to the device at once",
    source="Linux up to 6.17: the problem of the thread of October 2023",
)
