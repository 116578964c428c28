"""The colours can be told apart by everybody, on a light and on a dark page."""

import itertools

import numpy as np
import pytest

from tracereplay.policies import POLICIES
from tracereplay.replay.settings import KERNELS
from tracereplay.report.style import (
    KERNEL_COLOURS,
    LOOKS,
    PAGE_DARK,
    PAGE_LIGHT,
    policy_looks,
)

# Machado, Oliveira, Fernandes 2009, severity 1.0, on linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def linear(colour):
    rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    lms = np.cbrt(
        np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        )
        @ np.clip(rgb, 0, 1)
    )
    return (
        np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        )
        @ lms
    )


def contrast(colour, page):
    weights = np.array([0.2126, 0.7152, 0.0722])
    dark, light = sorted((linear(colour) @ weights, linear(page) @ weights))
    return (light + 0.05) / (dark + 0.05)


def nearest(colours, sight):
    """Return how far the two of some colours are apart that look most alike, and which they are."""
    seen = {name: oklab(SIGHTS[sight] @ linear(colour)) for name, colour in colours.items()}
    return min(
        (np.linalg.norm(seen[one] - seen[other]), one, other)
        for one, other in itertools.combinations(seen, 2)
    )


# 0.02 is a just noticeable difference of OKLab.


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_any_two_policies_differ_for_every_kind_of_sight(sight, theme):
    colours = {name: getattr(look, theme) for name, look in LOOKS.items()}
    assert nearest(colours, sight)[0] >= 0.08, nearest(colours, sight)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_two_policies_of_one_shape_differ_the_more(theme, sight):
    for shape in {look.shape for look in LOOKS.values()}:
        colours = {
            name: getattr(look, theme) for name, look in LOOKS.items() if look.shape == shape
        }
        if len(colours) > 1:
            far = 0.2 if sight == "normal" else 0.1
            assert nearest(colours, sight)[0] >= far, nearest(colours, sight)


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_kernels_differ_for_every_kind_of_sight(sight):
    assert set(KERNEL_COLOURS) <= set(KERNELS)  # others are grey
    assert nearest(KERNEL_COLOURS, sight)[0] >= 0.2, nearest(KERNEL_COLOURS, sight)


def test_every_colour_stands_out_from_its_page():
    for look in LOOKS.values():
        assert contrast(look.light, PAGE_LIGHT) >= 3
        assert contrast(look.dark, PAGE_DARK) >= 3
    for colour in KERNEL_COLOURS.values():
        assert contrast(colour, PAGE_LIGHT) >= 3


def test_a_known_policy_keeps_its_look_in_any_company():
    assert policy_looks(["zram", "store-raw"])["zram"] == LOOKS["zram"]
    assert policy_looks(["zram", "mine"])["zram"] == LOOKS["zram"]


def test_policies_of_ones_own_get_colours_that_are_free_and_the_bound_comes_last():
    looks = policy_looks(["unlimited-memory", "mine", "store-raw", "yours"])

    assert list(looks) == ["store-raw", "mine", "yours", "unlimited-memory"]
    assert len({look.light for look in looks.values()}) == 4


def test_every_policy_there_is_has_a_look():
    assert set(POLICIES) <= set(LOOKS)
