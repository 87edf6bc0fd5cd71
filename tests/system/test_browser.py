"""The report and the page of the dashboard in a browser: drawn, right, and without an error.

It takes Chromium and its driver: see `make test-browser`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dask_cluster import DaskCluster
from support.histories import made_up
from support.jobs import write_tree
from support.processes import wait_until
from support.results import result_with_history as result

from daskmr.diagnostics.html import render_report

pytestmark = [pytest.mark.slow, pytest.mark.browser]

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1400,1800"),
)
PATIENCE = 180.0  # seconds, for what takes one or two on a machine that does nothing else
JOB = """
import os, time
def map(key, dims, value, context):
    context.counter("seen", dims[2])
    if value == "bad":
        raise ValueError(value)
    while value == "wait" and not os.path.exists(GO):
        time.sleep(0.05)
    time.sleep(0.02)
    context.write(dims[2], key)
def reduce(key, values, context):
    context.write(key, len(values))
"""
# What the figures of a page hold, as Bokeh has it in the browser.
COLUMNS = """
const [name, source] = arguments;
const figure = Bokeh.documents[0].get_model_by_name(name);
const data = figure.renderers.find(renderer => renderer.name === source).data_source.data;
const columns = data instanceof Map ? Object.fromEntries(data) : data;
return Object.fromEntries(Object.entries(columns).map(([k, v]) => [k, Array.from(v)]));
"""
# Whether each figure that is seen has drawn something: its canvas is not all of one colour.
DRAWN = """
const canvases = root => [...root.querySelectorAll("*")].flatMap(element =>
  (element.tagName === "CANVAS" ? [element] : [])
    .concat(element.shadowRoot ? canvases(element.shadowRoot) : []));
const inked = canvas => {
  if (canvas.width === 0) return false;
  const copy = new OffscreenCanvas(canvas.width, canvas.height)
    .getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  return copy.getImageData(0, 0, canvas.width, canvas.height).data.some(value => value !== 0);
};
return Object.fromEntries([...document.querySelectorAll("figure:not([hidden])")].map(
  figure => [figure.id, canvases(figure).some(inked)]));
"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Chromium without a window, and without an account, history or network of its own."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.fail("There is no Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (*OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield started
    finally:
        started.quit()


def columns(browser: Any, figure: str, source: str) -> dict[str, list[Any]]:
    """What a figure holds."""
    return dict(browser.execute_script(COLUMNS, figure, source))


def errors(browser: Any) -> list[str]:
    """What the console tells, but for what Bokeh says of itself."""
    told = [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
    return [entry["message"] for entry in told]


def wait_until_drawn(browser: Any) -> dict[str, bool]:
    """Wait until there is something in each figure that is seen; return them."""

    def drawn() -> bool:
        figures = browser.execute_script(DRAWN)
        return bool(figures) and all(figures.values())

    wait_until(drawn, PATIENCE, "that all figures are drawn")
    return dict(browser.execute_script(DRAWN))


def fits(browser: Any) -> bool:
    """Whether nothing is wider than the window."""
    return bool(
        browser.execute_script(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    )


# --- the report ---------------------------------------------------------------------------------


@pytest.mark.parametrize("nasty", [False, True])
def test_a_report_is_drawn_from_a_file(browser: Any, tmp_path: Path, nasty: bool) -> None:
    history = made_up(nasty=nasty)
    page = render_report(result(nasty=nasty, counters={"<img src=x>": {"a": 1}}))
    (tmp_path / "report.html").write_text(page, "utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    figures = wait_until_drawn(browser)
    assert set(figures) == {
        *("throughput", "records", "fetched", "progress", "timeline", "memory", "spill"),
        *("partition-bytes", "partition-seconds", "key-values", "key-bytes"),
    }
    bars = columns(browser, "partition-bytes", "bars")
    mapped = [task for task in history.tasks if task.phase == "map"]
    assert bars["top"] == pytest.approx([task.bytes / 1e6 for task in mapped])
    assert len(columns(browser, "timeline", "tasks")["left"]) == len(history.tasks)
    rates = columns(browser, "throughput", "bars")
    total = sum(
        (right - left) * top
        for left, right, top in zip(rates["left"], rates["right"], rates["top"], strict=True)
    )
    assert total * 1e6 == pytest.approx(sum(task.bytes for task in mapped), rel=1e-3)
    assert columns(browser, "key-values", "bars")["right"][0] == history.hot_keys[0].values
    for width in (1400, 800, 500):
        browser.set_window_size(width, 1200)
        wait_until(lambda: fits(browser), what=f"that it fits into {width} pixels")
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert errors(browser) == []


def test_a_report_asks_for_nothing(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(render_report(result(nasty=True)), "utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    wait_until_drawn(browser)
    asked = browser.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert [name for name in asked if not name.startswith("data:")] == []


# --- while it runs ------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files of which the last is mapped only when there is a file `go`."""
    files = [[f"{n}\tgood", f"{n}\tgood", f"{n}\tbad", "no tab"] * 4 for n in range(24)]
    files[-1][0] = "23\twait"
    return write_tree(tmp_path / "data", files)


def started(tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    (tmp_path / "job.py").write_text(f"GO = {str(tmp_path / 'go')!r}\n{JOB}")
    command = ["run", "job.py", "-d", "data", "-o", "out.txt", "--log-format", "json", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "daskmr", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("{"):
            yield json.loads(line)


def follow(browser: Any, process: subprocess.Popen[str], address: str, go: Path) -> dict[str, Any]:
    """Look at a run, let it end, and return what the command said last."""
    summary: dict[str, Any] = {}

    def read() -> None:
        for event in told(process):
            summary.update(event)

    reading = threading.Thread(target=read)
    reading.start()
    browser.get(address)
    wait_until(lambda: state(browser) == "running", PATIENCE, "that the run is shown")
    wait_until_drawn(browser)
    wait_until(
        lambda: "map: partition 22" in columns(browser, "timeline", "tasks")["what"],
        PATIENCE,
        "that tasks are shown",
    )
    assert state(browser) == "running"
    go.touch()
    wait_until(lambda: state(browser) in ("ended", "lost"), PATIENCE, "that the run ends")
    reading.join(60)
    return summary


def state(browser: Any) -> str | None:
    """What the page says of the run: running, ended, lost."""
    return browser.execute_script("return document.body.dataset.state || null")  # type: ignore[no-any-return]


def tile(browser: Any, name: str) -> str:
    """A number that is shown large."""
    return str(
        browser.execute_script(
            "return [...document.querySelectorAll('.tile')].find("
            "tile => tile.querySelector('dt').textContent === arguments[0])"
            ".querySelector('dd').textContent",
            name,
        )
    )


def check_end(browser: Any, summary: dict[str, Any]) -> None:
    """Compare what the page has seen last with what the run says that it did."""
    assert summary["event"] == "summary"
    assert state(browser) == "ended"
    assert tile(browser, "Records") == f"{summary['records']:,}" == "384"
    assert tile(browser, "Bad records") == f"{summary['bad_records']:,}" == "192"
    tasks = columns(browser, "timeline", "tasks")["what"]
    assert {f"map: partition {n}" for n in range(24)} <= set(tasks)
    assert sum(columns(browser, "bad-records", "bars")["right"]) == summary["bad_records"]
    assert len(columns(browser, "partition-seconds", "bars")["top"]) == 24
    assert columns(browser, "key-values", "bars")["right"] == [192]
    assert errors(browser) == []
    time.sleep(2)  # the server is gone, and it must not ask again
    assert state(browser) == "ended"
    assert errors(browser) == []


def test_a_run_on_this_machine_is_shown(
    browser: Any, data: Path, tmp_path: Path, free_port: int
) -> None:
    process = started(
        tmp_path, "-m", "2", "--dashboard", f":{free_port}", "--report", "report.html"
    )
    try:
        address = next(e["address"] for e in told(process) if e["event"] == "dashboard")
        page = f"{address.removesuffix('/status')}/daskmr"
        summary = follow(browser, process, page, tmp_path / "go")
        assert process.wait(60) == 0
        check_end(browser, summary)
        browser.get((tmp_path / "report.html").as_uri())
        wait_until_drawn(browser)
        assert len(columns(browser, "timeline", "tasks")["left"]) >= 25
        assert errors(browser) == []
    finally:
        process.kill()
        process.communicate()


def test_a_run_on_an_existing_scheduler_is_shown(
    browser: Any, data: Path, tmp_path: Path, dask_cluster: DaskCluster
) -> None:
    from distributed import Client

    with Client(dask_cluster.address) as client:
        base = client.dashboard_link.removesuffix("/status")
    process = started(tmp_path, "--scheduler", dask_cluster.address)
    try:
        wait_until(is_there(f"{base}/daskmr"), PATIENCE, "that there is a page")
        summary = follow(browser, process, f"{base}/daskmr", tmp_path / "go")
        assert process.wait(60) == 0
        check_end(browser, summary)
    finally:
        process.kill()
        process.communicate()


def is_there(address: str) -> Callable[[], bool]:
    """Whether a server has something there."""
    import urllib.error
    import urllib.request

    def ask() -> bool:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    return ask


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
