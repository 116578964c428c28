"""`policies` and `formats`: what there is, one line each."""

from __future__ import annotations
