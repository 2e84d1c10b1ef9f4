"""The page in a real browser: what one clicks does what it says, and nothing is fetched, wider than a phone, or broken.

Needs chromium and its driver (Debian: `apt-get install chromium chromium-driver`) and selenium, else it is skipped.
"""

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.report import write_report
from tests.report import synthetic

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=alert(1)>"
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader",
             "--window-size=1280,900")  # fmt: skip
POINT = """
const plot = document.querySelector("#explore-curves .js-plotly-plot"), {xaxis, yaxis} = plot._fullLayout;
plot.scrollIntoView({block: "center"});
const line = plot.data.find((one) => one.name === arguments[0] && one.showlegend), box = plot.getBoundingClientRect();
const at = Math.floor(line.x.indexOf(null) / 2), run = line.customdata[at];
return [box.left + xaxis._offset + xaxis.d2p(line.x[at]), box.top + yaxis._offset + yaxis.d2p(line.y[at]), run];
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    synthetic.write_zoo(root / "results", ("adamw", "muon", HOSTILE), ("matrix_factorization",), trials=24, fresh=3)
    for folder in ("judge", "a_folder_of_the_judge_with_a_name_of_more_than_fifty_letters"):
        synthetic.write_answer(root / "results" / folder, "muon", matrix_factorization="practically the same")
    return write_report([root / "results"], root / "report")


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[Any]:
    """The page, its interactive pictures drawn."""
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in paths.items() if path is None]:
        pytest.skip(f"not installed: {' and '.join(missing)}")
    options = webdriver.ChromeOptions()
    options.binary_location = paths["chromium"]
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(paths["chromedriver"]))
    driver.get(page.as_uri())
    wait_until(lambda: not driver.find_elements("id", "explore-state"), 60)
    driver.execute_script("document.documentElement.style.scrollBehavior = 'auto'")  # a click would hit what scrolls by
    yield driver
    driver.quit()


def wait_until(holds: Callable[[], Any], seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := holds()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert value
    return value


def mouse(browser: Any, kind: str, x: float, y: float) -> None:
    browser.execute_cdp_cmd(
        "Input.dispatchMouseEvent",
        {"type": kind, "x": x, "y": y, "button": "none" if kind == "mouseMoved" else "left", "clickCount": 1},
    )


def emulate(browser: Any, *, width: int = 1280, media: str = "screen", scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def test_a_click_on_a_columns_head_sorts_its_table_and_another_turns_it_round(browser: Any) -> None:
    table = browser.find_element("css selector", "#runs details[open] table, #runs table")
    browser.execute_script("document.querySelector('#runs details').open = true")
    heads = table.find_elements("tag name", "th")
    column = [head.text for head in heads].index("final val loss")

    def losses() -> list[float]:
        cells = browser.execute_script(
            "return Array.from(arguments[0].tBodies[0].rows, (row) => row.cells[arguments[1]].textContent)",
            table,
            column,
        )
        return [float(cell.replace("e−", "e-")) for cell in cells if cell.strip() != "–"]

    for order, reverse in (("ascending", False), ("descending", True)):
        browser.execute_script("arguments[0].querySelector('button').click()", heads[column])
        assert heads[column].get_attribute("aria-sort") == order
        assert losses() == sorted(losses(), reverse=reverse)
    assert len(losses()) > 5


def test_hovering_a_curve_names_its_run_and_a_click_goes_to_its_row(browser: Any) -> None:
    x, y, run = browser.execute_script(POINT, "muon")
    mouse(browser, "mouseMoved", x, y)
    text = wait_until(lambda: [one.text for one in browser.find_elements("css selector", ".hoverlayer .hovertext")])
    assert f"run {run}" in text[0]
    assert "muon lr=" in text[0]
    for kind in ("mousePressed", "mouseReleased"):
        mouse(browser, kind, x, y)
    row = wait_until(lambda: browser.find_elements("css selector", "#runs tr.found"))
    assert row[0].text.startswith(run)
    assert row[0].is_displayed()


def test_a_click_on_a_name_hides_the_optimizer_and_another_shows_it(browser: Any) -> None:
    plot = browser.find_element("css selector", "#explore-curves .js-plotly-plot")
    shown = "return arguments[0].data.filter((one) => one.name === 'muon').map((one) => one.visible ?? true)"
    names = [one.text for one in plot.find_elements("css selector", ".legendtext")]
    toggle = plot.find_elements("css selector", ".legendtoggle")[names.index("muon")]
    for state in ("legendonly", True):
        box = browser.execute_script(
            "arguments[0].scrollIntoView({block: 'center'});"
            "const box = arguments[0].getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]",
            toggle,
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            mouse(browser, kind, *box)
        wait_until(lambda state=state: browser.execute_script(shown, plot) == [state, state])
    assert HOSTILE in names


def test_a_search_shows_its_trials_and_what_mattered(browser: Any) -> None:
    figures = {name: browser.find_element("id", f"explore-{name}") for name in ("searches", "importances")}
    axes = [one.text for one in figures["searches"].find_elements("css selector", ".axis-title")]
    assert {"lr", "weight_decay", "final val loss"} == set(axes)
    assert len(figures["searches"].find_elements("css selector", "select option")) == 3
    bars = browser.execute_script(
        "return arguments[0].querySelector('.js-plotly-plot').data[0]", figures["importances"]
    )
    assert bars["y"][-1] == "lr"  # the largest stands on top
    assert figures["importances"].find_element("css selector", ".xtitle").text.endswith("(1: the variance)")
    assert "n = 2" in figures["importances"].find_element("tag name", "figcaption").text


def test_every_link_leads_to_its_place(browser: Any) -> None:
    for link in browser.find_elements("css selector", "a"):
        anchor = link.get_attribute("href").partition("#")[2]
        browser.execute_script("arguments[0].click()", link)
        place = browser.find_element("id", anchor)
        wait_until(
            lambda place=place: browser.execute_script("return arguments[0].getBoundingClientRect().top", place) < 900
        )


def test_no_table_of_results_is_cut_off_on_a_desk(browser: Any) -> None:
    cut = "return Array.from(document.querySelectorAll('main .scroll')).filter((one) => !one.closest('details'))" \
          ".filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent.slice(0, 80))"  # fmt: skip
    assert browser.execute_script(cut) == []


def test_on_a_phone_a_table_that_goes_on_fades_out_until_one_has_scrolled_to_its_end(browser: Any) -> None:
    boxes = "return Array.from(document.querySelectorAll('main .scroll')).filter((one) => one.checkVisibility() && "
    fading, wider = f"{boxes}one.matches('.more'))", f"{boxes}one.scrollWidth > one.clientWidth + 1)"
    assert browser.execute_script(fading) == []
    emulate(browser, width=390)
    tables = wait_until(lambda: (found := browser.execute_script(wider)) == browser.execute_script(fading) and found)
    browser.execute_script("arguments[0].scrollLeft = 9999", tables[0])
    wait_until(lambda: browser.execute_script(fading) == tables[1:])
    browser.execute_script("arguments[0].scrollLeft = 0", tables[0])
    emulate(browser)
    wait_until(lambda: browser.execute_script(fading) == [])


def test_on_a_phone_the_labels_of_six_axes_keep_apart(browser: Any) -> None:
    axis = {"label": "key", "values": [0, 1, 2], "ticks": [0, 1, 2], "texts": ["3.69e-12", "0.00118", "0.901"]}
    overlaps = """
    const boxes = Array.from(arguments[0].querySelectorAll(".axis .tick text"), (one) => one.getBoundingClientRect());
    return [boxes.length, boxes.filter((a, i) => boxes.some((b, j) =>
      i < j && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length];"""
    emulate(browser, width=390)
    browser.execute_script("const plot = document.createElement('div'); "
                           "document.getElementById('explore').append(plot); "
                           "Plotly.newPlot(plot, ...drawSearch({axes: arguments[0]}))", [axis] * 6)  # fmt: skip
    plot = browser.find_element("css selector", "#explore > div:last-child")
    wait_until(lambda: browser.execute_script(overlaps, plot)[0] == 18)
    assert browser.execute_script(overlaps, plot)[1] == 0
    browser.execute_script("arguments[0].remove()", plot)
    emulate(browser)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone_and_the_dark_page_is_dark(browser: Any, scheme: str) -> None:
    emulate(browser, width=390, scheme=scheme)
    text = "return getComputedStyle(document.querySelector('#explore-curves .xtick text')).fill"
    muted = {"light": "rgb(91, 102, 117)", "dark": "rgb(154, 166, 181)"}[scheme]
    wait_until(lambda: browser.execute_script(text) == muted)
    wait_until(lambda: browser.execute_script("return document.documentElement.scrollWidth") <= 390)
    wide = "return Array.from(document.querySelectorAll('figure, figure svg, figure canvas'))" \
           ".filter((one) => one.getBoundingClientRect().right > 391).length"  # fmt: skip
    wait_until(lambda: browser.execute_script(wide) == 0)
    shown = "return Array.from(document.querySelectorAll(arguments[0])).filter((one) => one.checkVisibility()).length"
    figures = browser.execute_script(shown, "figure:not([id^=explore])")
    wait_until(lambda: browser.execute_script(shown, ".plot.narrow svg") == figures)
    assert browser.execute_script(shown, ".plot.wide svg") == 0
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(19, 23, 29)"}[scheme]
    emulate(browser)


def test_the_printed_page_has_the_static_pictures_alone(browser: Any) -> None:
    emulate(browser, media="print")
    shown = "return Array.from(document.querySelectorAll(arguments[0])).map((one) => one.checkVisibility())"
    assert browser.execute_script(shown, "#explore, nav, .plot.narrow").count(True) == 0
    assert all(browser.execute_script(shown, ".plot.wide"))
    assert len(base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])) > 20_000
    emulate(browser)


def test_no_error_in_the_console_and_no_request_to_anywhere(browser: Any, page: Path) -> None:
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert page.as_uri() in {url.partition("#")[0] for url in asked}
    assert all(url.startswith((page.as_uri(), "data:", "blob:")) for url in asked)
