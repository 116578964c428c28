"""What a scenario refuses, and what it says."""

from __future__ import annotations

import dataclasses

import pytest

from tracereplay.errors import SettingsError
from tracereplay.policies.base import Policy
from tracereplay.reclaim import find_reclaim
from tracereplay.replay.engine import PROFILE_ONLY
from tracereplay.replay.settings import KERNELS, KernelProfile, Scenario, stores_raw


def scenario(**settings):
    return Scenario(**({"memory_limit_bytes": 1 << 20} | settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "stor-raw"}, "unknown policy 'stor-raw'; did you mean store-raw"),
        ({"policy": "zzz"}, "unknown policy 'zzz'; known: no-zswap, "),
        ({"kernel": "6.21"}, "unknown kernel '6.21'; there are rules of 6.1, 6.12, 6.18, 7.2, 7.3"),
        ({"cgroup": "v3"}, "unknown cgroup version 'v3'; did you mean v"),
        ({"allocator": "zbud"}, "kernel 6.18 has no allocator 'zbud'; it has zsmalloc, ideal"),
        ({"allocator": "slab", "kernel": "6.1"}, "kernel 6.1 has no allocator 'slab'"),
        ({"memory_limit_bytes": 4095}, "a memory limit below one page"),
        ({"accept_threshold_percent": 101}, "accept threshold: 0 to 100 percent"),
        ({"accept_threshold_percent": -1}, "accept threshold: 0 to 100 percent"),
        ({"swappiness": 201}, "swappiness: 0 to 200"),
        ({"page_cluster": 6}, "page cluster: 0 to 5"),
        ({"touch_ns": -1}, "touch_ns is -1; 0 or more"),
        ({"touch_ns": 10**21}, f"touch_ns is {10**21}, which is too large"),
        ({"stat_flush_ns": 10**23}, f"stat_flush_ns is {10**23}, which is too large"),
        ({"ram_bytes": 0}, "ram_bytes is 0; 4096 or more"),
        ({"pool_limit_bytes": -1}, "pool_limit_bytes is -1; 0 or more"),
        ({"zswap_max_bytes": -1}, "zswap_max_bytes is -1; 0 or more"),
        ({"swap_bytes": -4096}, "swap_bytes is -4096; 0 or more"),
        ({"stat_flush_ns": -5}, "stat_flush_ns is -5; 0 or more"),
        ({"stat_flush_phase_ns": -5}, "stat_flush_phase_ns is -5; 0 or more"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_there_is(settings, message):
    with pytest.raises(SettingsError) as caught:
        scenario(**settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_unknown_reclaim_model_is_met_with_the_nearest():
    with pytest.raises(
        SettingsError, match=r"unknown reclaim model 'two_list'; did you mean two-list"
    ):
        find_reclaim("two_list")


def test_a_name_says_what_differs_from_the_defaults():
    assert scenario().name == "store-raw/two-list/1.0MiB"
    changed = scenario(cgroup="v1", kernel="6.12", allocator="zbud", page_cluster=0)
    assert changed.name == "store-raw/two-list/1.0MiB/6.12/v1/zbud/page_cluster=0"
    assert scenario(name="mine").name == "mine"
    assert scenario(ram_bytes=1 << 30).name == "store-raw/two-list/1.0MiB/ram_bytes=1073741824"
    both = scenario(ram_bytes=1 << 30, pool_limit_bytes=1 << 20, touch_ns=50)
    assert both.name == "store-raw/two-list/1.0MiB/pool_limit_bytes=1048576/touch_ns=50"


def test_the_pool_limit_is_a_fifth_of_the_machine_in_whole_pages():
    assert scenario(ram_bytes=101 * 4096).pool_limit == 20 * 4096
    assert scenario(pool_limit_bytes=5).pool_limit == 5


def test_each_kernel_has_zsmalloc_and_the_ideal_allocator_and_stores_raw_as_its_release():
    for name, profile in KERNELS.items():
        assert profile.name == name
        assert profile.stores_raw == stores_raw(name)
        assert {"zsmalloc", "ideal"} <= set(profile.allocators)


def machine_of(kernel):
    model = find_reclaim("two-list")
    return model.replay(scenario(kernel=kernel), rows=1, unique_pages=1, one_cpu=True).machine[0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_machine_knows_every_rule_of_its_kernel(kernel):
    rules = {field.name for field in dataclasses.fields(KernelProfile)} - PROFILE_ONLY
    machine = machine_of(kernel)
    assert not PROFILE_ONLY & set(machine.dtype.names)
    for rule in rules:
        assert machine[rule] == getattr(KERNELS[kernel], rule), rule


def test_a_rule_that_no_machine_knows_is_no_rule(monkeypatch):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Newer(KernelProfile):
        unheard_of: bool = True

    monkeypatch.setitem(KERNELS, "6.18", Newer(name="6.18", since=(6, 16)))
    with pytest.raises(ValueError, match="unheard_of"):
        machine_of("6.18")


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"pool_full": "raw"}, "policy mine: pool_full is 'raw'; it is one of device, keep"),
        ({"incompressible": "store"}, "incompressible is 'store'; it is one of device, keep, raw"),
        ({"cutoff_bytes": 0}, "policy mine: cutoff_bytes is 0; 1 to 4096"),
        ({"cutoff_bytes": 4097}, "policy mine: cutoff_bytes is 4097; 1 to 4096"),
    ],
)
def test_an_answer_no_policy_can_give_is_refused(answers, says):
    with pytest.raises(SettingsError, match=says):
        Policy(name="mine", summary="", source="", **answers)
