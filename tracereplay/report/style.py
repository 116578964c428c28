"""One colour, shape and place per policy, the same in every figure, table and theme.

The thirteen colours were searched for, not picked: greatest smallest distance (OKLab) between any
two under normal sight, protanopia, deuteranopia and tritanopia (Machado et al. 2009, severity 1),
with a contrast of 3 or more against the page. `tests/report/test_style.py` measures it again.
Shapes tell policies apart where colour cannot, as on paper.
"""

from __future__ import annotations

from typing import NamedTuple

from tracereplay.policies import BOUND
from tracereplay.schema import SERVICES

PAGE_LIGHT, PAGE_DARK = "#ffffff", "#16191e"


class Look(NamedTuple):
    """How a policy is drawn: colour on a light and on a dark page, and a Vega symbol."""

    light: str
    dark: str
    shape: str


# Vega has no filled bar among its symbols, and no X.
BAR_SHAPE = "M-1,-0.3H1V0.3H-1Z"
X_SHAPE = "M-0.65,-1L0,-0.35L0.65,-1L1,-0.65L0.35,0L1,0.65L0.65,1L0,0.35L-0.65,1L-1,0.65L-0.35,0L-1,-0.65Z"

LOOKS: dict[str, Look] = {
    "no-zswap": Look("#4d4d4d", "#d0d0d0", "square"),
    "swap-on-reject": Look("#cc3311", "#ff3300", "triangle-down"),
    "keep-on-reject": Look("#dd7733", "#aabb00", "triangle-up"),
    "store-raw": Look("#3388bb", "#7799ff", "circle"),
    "store-raw-keep": Look("#4422cc", "#aa44ff", "diamond"),
    "no-writeback": Look("#cc66ff", "#dd66cc", "triangle-left"),
    "ghost-swapfile": Look("#880088", "#dd99cc", "triangle-right"),
    "mixed-lru": Look("#994488", "#aaffbb", "cross"),
    "ratio-cutoff": Look("#ff11cc", "#44ff00", "square"),
    "shrinker": Look("#447744", "#229944", "diamond"),
    "vswap": Look("#9900ff", "#cc33bb", "circle"),
    "zram": Look("#990000", "#77cc88", X_SHAPE),
    "unlimited-memory": Look("#8c8c8c", "#8c8c8c", BAR_SHAPE),
}

# Searched for as the policies' colours were, on a white page.
KERNEL_COLOURS: dict[str, str] = {
    "7.3": "#ff5500",
    "7.2": "#770000",
    "6.18": "#3300bb",
    "6.12": "#5599dd",
    "6.1": "#000000",
}

# From cheap to dear, so that a bar reads from left to right; light and dark page.
SERVICE_LOOKS: dict[str, tuple[str, str]] = dict(
    zip(
        SERVICES,
        (
            ("#d9d9d9", "#4a4f57"),
            ("#b3cde3", "#5b7fa6"),
            ("#6497b1", "#7fb0d8"),
            ("#005b96", "#a9d0f5"),
            ("#e69f00", "#e69f00"),
            ("#a50026", "#ff6b5e"),
        ),
        strict=True,
    )
)

# The parts of memory stacked over the trace: what stays, what is compressed, what left.
PART_LOOKS: dict[str, tuple[str, str]] = {
    "resident": ("#6497b1", "#5b7fa6"),
    "pool": ("#e69f00", "#e69f00"),
    "device": ("#c9c9c9", "#555b64"),
}


def policy_looks(policies: list[str]) -> dict[str, Look]:
    """Return the look of each policy, in the order every figure keeps: known ones first.

    A policy of the user's own takes a colour that no other policy of this result has, as long as
    there is one.
    """
    present = set(policies)
    looks = {name: look for name, look in LOOKS.items() if name in present}
    free = [look for name, look in LOOKS.items() if name not in present]
    own = sorted(present - LOOKS.keys())
    for index, name in enumerate(own):
        pool = free or list(LOOKS.values())
        looks[name] = pool[index % len(pool)]
    # The bound comes last: it is what to measure against, and no choice.
    if BOUND in looks:
        looks[BOUND] = looks.pop(BOUND)
    return looks
