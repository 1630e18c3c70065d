"""A real Chromium, and a report to open in it.

`XSTILTS_REPORT` names a report's folder to test another than the small one that is made here.
Chromium and its driver are Debian's `chromium` and `chromium-driver`; selenium and axe-core come
with `make test-browser`. Where something is missing, the tests are skipped and say what.
"""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from chromium import ARGUMENTS, resize

from small_results import make_results
from xstilts.report.build import run


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> Path:
    """The folder of the report."""
    named = os.environ.get("XSTILTS_REPORT")
    if named:
        return Path(named).resolve()
    results, before = tmp_path_factory.mktemp("results") / "small", Path.cwd()
    results.mkdir()
    os.chdir(results)
    try:
        run(make_results(), Path("report"))
    finally:
        os.chdir(before)
    return results / "report"


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or not found.submodule_search_locations:
        pytest.skip("axe-core is missing: make test-browser installs it")
    path = Path(found.submodule_search_locations[0]) / "axe.min.js"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def session_driver(tmp_path_factory):
    """One Chromium with an empty profile."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="make test-browser installs it")
    from selenium.webdriver.chrome.service import Service

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("chromium or chromedriver is missing (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    found = webdriver.Chrome(options=options, service=Service(driver))
    found.set_script_timeout(120)
    yield found
    found.quit()


@pytest.fixture
def driver(session_driver):
    """The Chromium, 1,400 pixels wide, with an empty page and an empty log."""
    resize(session_driver, 1400)
    session_driver.get("about:blank")
    session_driver.get_log("browser")
    return session_driver
