"""Arrays the replay keeps between batches, and the rare events it hands out."""

from __future__ import annotations

import numpy as np

# One row per touch that was not free: what answered it and what reclaim did on its behalf.
# Counts only; nanoseconds are made of them by a cost model (latency.py).
EVENT = np.dtype(
    [
        ("access", np.int64),  # row of the trace
        ("clock_ns", np.int64),  # replay clock when the touch came, mean stalls so far included
        ("service", np.uint8),  # index into schema.SERVICES; BACKGROUND for work of the worker
        ("size_bytes", np.uint16),  # compressed size that was decompressed, 0 otherwise
        ("scanned", np.uint32),  # pages reclaim looked at
        ("stored", np.uint32),  # pages compressed and stored (raw stores included)
        ("stored_bytes", np.uint32),  # sum of their compressed sizes
        ("raw", np.uint32),  # of the stored, raw ones
        ("rejected", np.uint32),  # pages compressed in vain
        ("dropped", np.uint32),  # clean or zero pages freed without a store or a write
        ("written", np.uint32),  # device writes submitted straight from memory
        ("written_back", np.uint32),  # zswap entries decompressed and submitted to the device
        ("written_back_bytes", np.uint32),  # sum of their compressed sizes
        ("read_ahead", np.uint32),  # further pages read from the device by readahead
        ("read_ahead_loads", np.uint32),  # further pages loaded from zswap by readahead
        ("waits", np.uint32),  # times reclaim slept for I/O
    ],
    align=True,
)

BACKGROUND = 255  # service of events that no touch waits for: the writeback worker's own work
