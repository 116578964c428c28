"""What the curves mean, slow and obvious, in plain Python; imports nothing of the package."""

from collections import OrderedDict


def lru_misses(pages, capacity):
    """Misses of one LRU memory that holds `capacity` pages."""
    resident = OrderedDict()
    misses = 0
    for page in pages:
        if page in resident:
            resident.move_to_end(page)
            continue
        misses += 1
        if capacity:
            if len(resident) == capacity:
                resident.popitem(last=False)
            resident[page] = True
    return misses


def stack_distances(pages):
    """Distinct other pages since the last use of each access's page; None for a first use."""
    stack = []
    found = []
    for page in pages:
        if page in stack:
            found.append(stack.index(page))
            stack.remove(page)
        else:
            found.append(None)
        stack.insert(0, page)
    return found


def next_uses(pages):
    """Row of the next access to the same page; None where there is none."""
    return [
        next((later for later in range(row + 1, len(pages)) if pages[later] == pages[row]), None)
        for row in range(len(pages))
    ]


def ram_and_pool(pages, stored_bytes, capacity, limit_bytes):
    """Misses, loads, zero fills and writebacks of an LRU memory with a pool behind it.

    stored_bytes maps a page to its bytes in the pool, to None where no pool takes it, or to 0 where
    it is all zeros. What comes back leaves the pool first; then the memory's oldest page goes there,
    and the pool writes back its oldest until it fits.
    """
    memory = OrderedDict()
    pool = OrderedDict()
    seen = set()
    misses = loads = zero_fills = written_back = 0
    for page in pages:
        if page in memory:
            memory.move_to_end(page)
            continue
        misses += 1
        if page in pool:
            del pool[page]
            loads += 1
        elif page in seen and stored_bytes[page] == 0:
            zero_fills += 1
        seen.add(page)
        memory[page] = True
        if len(memory) > capacity:
            victim, _ = memory.popitem(last=False)
            if stored_bytes[victim]:
                pool[victim] = stored_bytes[victim]
            while sum(pool.values()) > limit_bytes:
                pool.popitem(last=False)
                written_back += 1
    return misses, loads, zero_fills, written_back


def loads_by_byte_distance(pages, stored_bytes, capacity, limit_bytes):
    """Loads, were a pool all that fits at the time of the reuse: the rule that is *not* exact."""
    stack = []
    loads = 0
    for page in pages:
        if page in stack:
            depth = stack.index(page)
            if depth >= capacity:
                between = sum(stored_bytes[p] for p in stack[capacity : depth + 1])
                loads += between <= limit_bytes
            stack.remove(page)
        stack.insert(0, page)
    return loads
