"""report.html in headless Chromium: no errors, no requests, filters, keyboard, hostile names.

Needs Debian's `chromium` and `chromium-driver`; `.ci/run` installs them where it may.
"""

import json
import re
import shutil

import pytest

from tracereplay.report.html import render_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with its driver here"),
]

POLICIES = ("no-zswap", "swap-on-reject", "keep-on-reject", "store-raw", "unlimited-memory")
HOSTILE = "</script><script>window.hacked=1</script></style>\u202e<img src=x onerror='hacked=1'>\"'"


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


def show(browser, path, page, *, width=1280):
    path.write_text(page, encoding="utf-8")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get_log("performance")
    browser.get(path.as_uri())
    assert wait(browser, "window.reportReady") is True


def wait(browser, promise):
    return browser.execute_async_script(
        f"const done = arguments[0]; Promise.resolve({promise}).then(v => done(v === true), e => done(String(e)));"
    )


def drawn(browser, figure):
    """Return what a figure's visible panels draw: the outline of every mark, to a quarter pixel."""
    return browser.execute_script(
        """return [...document.querySelectorAll(`.panel[data-figure='${arguments[0]}']`)]
          .filter(panel => !panel.hidden && !panel.querySelector('.view').hidden)
          .map(panel => [...panel.querySelectorAll('svg .mark-line path, svg .mark-symbol path, '
            + 'svg .mark-rect path, svg .mark-area path')].map(path => path.getAttribute('d')
            + path.getAttribute('transform')).map(text => text.replace(/-?\\d[\\d.e-]*/g,
            number => Math.round(number * 4) / 4)).sort().join('|'))""",
        figure,
    )


def visible(browser, selector):
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter(e => !e.hidden).length",
        selector,
    )


def set_box(browser, key, value, *, checked):
    browser.execute_script(
        """for (const box of document.querySelectorAll('#filters input'))
             if (box.dataset.key === arguments[0] && box.dataset.value === JSON.stringify(arguments[1])
                 && box.checked !== arguments[2]) box.click();""",
        key,
        value,
        checked,
    )
    wait(browser, "window.reportUpdated")


def test_the_page_draws_every_figure_without_errors_or_requests(browser, fake_result, tmp_path):
    result = fake_result(POLICIES, limits_mib=(48, 80), codecs=("lzo", "zstd"))
    show(browser, tmp_path / "report.html", render_html(*result))

    log = [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
    assert log == []
    asked = [
        message["params"]["request"]["url"]
        for message in (
            json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
        )
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) <= 1
    for figure in ("latency", "danger", "trade-off", "services", "codecs", "faults", "footprint"):
        panels = drawn(browser, figure)
        assert panels, figure
        assert all(panels), figure
    assert (
        browser.execute_script("return document.querySelectorAll('svg [fill=undefined]').length")
        == 0
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_page(browser, fake_result, tmp_path, width):
    show(
        browser,
        tmp_path / "report.html",
        render_html(*fake_result(limits_mib=(48, 80))),
        width=width,
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_filters_change_every_figure_and_come_back(browser, fake_result, tmp_path):
    result = fake_result(POLICIES, limits_mib=(48, 80), codecs=("lzo", "zstd"))
    show(browser, tmp_path / "report.html", render_html(*result))
    figures = ("latency", "danger", "trade-off", "services", "codecs", "faults", "footprint")
    before = {figure: drawn(browser, figure) for figure in figures}
    rows = visible(browser, "tr[data-scenario]")
    assert rows == len(result[0])

    for key, value in (
        ("policy", "store-raw"),
        ("memory_limit_bytes", 48 << 20),
        ("codec", "zstd"),
    ):
        set_box(browser, key, value, checked=False)
        assert visible(browser, "tr[data-scenario]") < rows
        for figure in figures:
            assert drawn(browser, figure) != before[figure], (key, figure)
        if key == "memory_limit_bytes":
            assert visible(browser, ".verdict") == 1
        set_box(browser, key, value, checked=True)
        for figure in figures:
            # Vega fits labels into the width in steps, so that a bar may differ by a pixel or two.
            back = [panel.count("|") for panel in drawn(browser, figure)]
            assert back == [panel.count("|") for panel in before[figure]], (key, figure)

    browser.find_element("css selector", "[data-none=policy]").click()
    wait(browser, "window.reportUpdated")
    assert visible(browser, "tr[data-scenario]") == 0
    assert visible(browser, ".empty") > 0
    browser.find_element("css selector", "[data-all=policy]").click()
    wait(browser, "window.reportUpdated")
    assert drawn(browser, "latency") == before["latency"]
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_trade_off_can_be_read_by_another_latency(browser, fake_result, tmp_path):
    from selenium.webdriver.support.ui import Select

    show(browser, tmp_path / "report.html", render_html(*fake_result(POLICIES)))
    before = drawn(browser, "trade-off")
    Select(browser.find_element("id", "metric")).select_by_value("stall_total_ns")
    wait(browser, "window.reportUpdated")
    assert drawn(browser, "trade-off") != before


def test_the_front_drawn_is_the_front_named(browser, fake_result, tmp_path):
    from tracereplay.report.figures import pareto_front
    from tracereplay.report.findings import labelled_rows

    result = fake_result(limits_mib=(48, 80))
    show(browser, tmp_path / "report.html", render_html(*result))
    named = browser.execute_script(
        "return [...document.querySelectorAll('.panel[data-figure=trade-off] .mark-text.role-mark text')]"
        ".map(text => text.textContent)"
    )
    front = pareto_front(labelled_rows(result[0], result[1]), "swapin_latency_p99_ns")
    # "+n" behind a name counts those that stand on the same spot; off the front it stands alone.
    named = [text for text in named if not text.strip().startswith("+")]
    assert sorted(re.sub(r" \+\d+$", "", text) for text in named) == sorted(
        row["label"] for row in front
    )


def test_the_lines_can_be_read_of_major_faults_alone(browser, fake_result, tmp_path):
    from selenium.webdriver.support.ui import Select

    show(browser, tmp_path / "report.html", render_html(*fake_result(("no-zswap", "mixed-lru"))))
    before = drawn(browser, "latency")
    Select(browser.find_element("id", "population")).select_by_value("major faults")
    wait(browser, "window.reportUpdated")
    assert drawn(browser, "latency") != before
    Select(browser.find_element("id", "population")).select_by_value("swap-ins")
    wait(browser, "window.reportUpdated")
    assert drawn(browser, "latency") == before


def test_every_control_is_reached_and_worked_by_keyboard(browser, fake_result, tmp_path):
    from selenium.webdriver.common.keys import Keys

    result = fake_result(POLICIES, limits_mib=(48, 80))
    show(browser, tmp_path / "report.html", render_html(*result))
    controls = browser.execute_script(
        "window.controls = [...document.querySelectorAll('button, input, select, summary, a[href], "
        '[tabindex="0"]\')].filter(e => e.checkVisibility());'
        "return controls.length"
    )
    body = browser.find_element("tag name", "body")
    reached = set()
    for _ in range(controls + 5):
        (browser.switch_to.active_element or body).send_keys(Keys.TAB)
        reached.add(browser.execute_script("return controls.indexOf(document.activeElement)"))
    assert reached >= set(range(controls))

    box = browser.find_element("css selector", "#filters input")
    before = drawn(browser, "latency")
    box.send_keys(Keys.SPACE)
    wait(browser, "window.reportUpdated")
    assert drawn(browser, "latency") != before


def test_hovering_a_point_shows_its_numbers(browser, fake_result, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains

    result = fake_result(("no-zswap", "store-raw"))
    show(browser, tmp_path / "report.html", render_html(*result))
    point = browser.find_element(
        "css selector", ".panel[data-figure=trade-off] .mark-symbol.role-mark path"
    )
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(browser).move_to_element(point).perform()
    tip = browser.execute_script("return document.getElementById('vg-tooltip-element').textContent")
    assert "p99 swap-in" in tip
    assert "no-zswap" in tip or "store-raw" in tip


def test_dark_and_light_change_the_colours_of_the_figures(browser, fake_result, tmp_path):
    show(browser, tmp_path / "report.html", render_html(*fake_result(("no-zswap", "store-raw"))))

    def colours():
        return browser.execute_script(
            "return [getComputedStyle(document.body).backgroundColor,"
            "getComputedStyle(document.querySelector('.mark-line path[stroke]')).stroke]"
        )

    first = colours()
    browser.find_element("id", "theme").click()
    second = colours()
    assert first[0] != second[0]
    assert first[1] != second[1]
    browser.find_element("id", "theme").click()
    assert colours() == first


def test_hostile_names_do_nothing(browser, fake_result, tmp_path):
    result = fake_result(("no-zswap", HOSTILE), trace=HOSTILE, content=HOSTILE, notes=[HOSTILE])
    show(browser, tmp_path / "report.html", render_html(*result))

    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('body img').length") == 0
    assert browser.execute_script("return document.querySelectorAll('script').length") == 3
    shown = browser.execute_script("return document.querySelector('h1').textContent")
    assert shown == HOSTILE.replace("\u202e", r"\u202e")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_page_prints(browser, fake_result, tmp_path):
    show(browser, tmp_path / "report.html", render_html(*fake_result(POLICIES)))
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
    assert len(printed["data"]) > 30_000
