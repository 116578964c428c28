"""Ratios against other programs: `python -m benchmarks`."""
