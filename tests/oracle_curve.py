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
