"""A real browser without a window, driven by the tests."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.paths import CHECKOUT

AXE = CHECKOUT / "tests" / "assets" / "axe.min.js"


def browser(folder: Path, **logs: str) -> Any:
    """A browser with its profile below ``folder``; ``logs`` as ChromeDriver names them, beside the console's."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.fail("this test needs Chromium: apt-get install chromium chromium-driver (make test does it)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    flags = ["--headless=new", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"]
    flags.append(f"--user-data-dir={folder / 'profile'}")
    for flag in flags + (["--no-sandbox"] if os.geteuid() == 0 else []):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"} | logs)
    return webdriver.Chrome(options=options, service=Service(driver))
