"""`uscl ui` over a finished sweep of 30 cells, looked at with a real headless Chromium."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fake_sweep import make_cells, make_sweep

from uscl.cli.ui import free_port

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
SEEN = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
"""MLflow's assistant opens over a third of the page at the first visit."""
LEFT_TO_RIGHT = """cells => cells.map(cell => [cell.getBoundingClientRect().left, cell.innerText.trim()])
    .sort((a, b) => a[0] - b[0]).map(pair => pair[1])"""


@pytest.fixture(scope="module")
def cells():
    return make_cells()


@pytest.fixture(scope="module")
def ui(tmp_path_factory, cells):
    """The running command and the link that it printed."""
    root = tmp_path_factory.mktemp("ui") / "runs"
    make_sweep(root, cells)
    command = [sys.executable, "-m", "uscl.cli.main", "ui", "--store", str(root), "--port", str(free_port(5600))]
    env = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        yield process, next(line.split(": ", 1)[1] for line in said if line.startswith("temporal"))
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture
def page():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = browser.new_page(viewport={"width": 1700, "height": 1300})
        page.add_init_script(SEEN)
        page.route(lambda url: "127.0.0.1" not in url, lambda route: route.abort())
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def keep_screenshot(page, name):
    """For a look by eye: USCL_SCREENSHOTS names a folder."""
    if folder := os.environ.get("USCL_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_the_run_table_shows_the_sweep_and_30_cells_with_their_columns(ui, page, cells):
    page.goto(ui[1])
    page.wait_for_function("document.querySelectorAll('.ag-center-cols-container .ag-row').length >= 31")
    keep_screenshot(page, "run-table")
    text = page.inner_text("body")
    assert "sweep temporal" in text
    assert "31 matching runs" in text
    assert [cell.label for cell in cells if cell.label not in text] == []
    headers = page.eval_on_selector_all(".ag-header-cell", LEFT_TO_RIGHT)
    columns = ["test/dsc", "val/dsc", "test/delta_snr", "contrast.loss", "temporal.polarity", "temporal.stage"]
    assert [name for name in headers if name in columns] == columns
    assert {"0.451", "0.622", "0.73"} <= set(text.split())  # test/dsc of cells 1, 2 and 30


def test_the_parent_lists_its_cells_and_holds_the_table(ui, page, cells):
    page.goto(ui[1])
    page.get_by_text("sweep temporal", exact=True).click()
    page.get_by_text("Child runs", exact=True).wait_for()
    page.get_by_text(cells[-1].label).first.wait_for()
    page.goto(page.url.split("?")[0].rstrip("/") + "/artifacts/table.txt")
    page.get_by_text("all background").first.wait_for()
    keep_screenshot(page, "parent-table")


def test_an_overlay_is_displayed_among_the_artifacts(ui, page, cells):
    page.goto(ui[1])
    page.get_by_text(cells[3].label, exact=True).click()
    page.get_by_text("Artifacts", exact=True).click()
    for name in ("overlays", "test", "overlay-best-p04.png"):
        page.get_by_text(name, exact=True).first.click()
    page.wait_for_function("[...document.images].some(i => i.complete && i.naturalWidth === 96)")
    keep_screenshot(page, "overlay")


def test_sigterm_ends_the_command_and_its_server(ui):
    process, link = ui
    port = int(re.search(r":(\d+)/", link)[1])
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
