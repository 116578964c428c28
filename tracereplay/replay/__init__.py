"""The access loop, zswap, its allocators, swap slots and the device queue."""
