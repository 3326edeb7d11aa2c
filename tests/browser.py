"""A headless Chromium that looks at pages. It needs Debian's packages `chromium` and `chromium-driver`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

SIZES = ((390, 844), (1440, 900))
# Whatever is wider than the window, but for what scrolls in a box of its own.
TOO_WIDE = """
const inBox = (e) => e && (getComputedStyle(e).overflowX === "auto" || inBox(e.parentElement));
return [...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5 && !inBox(e.parentElement))
  .map((e) => e.tagName + "." + e.className);
"""


class Browser:
    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        self._driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns; it has `arguments`."""
        return self._driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.run(
            f"return [...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)"
        )
        return found

    def resize(self, width: int, height: int, scale: int = 1) -> None:
        """`scale`: the screen's pixels for each of the page's."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def tap(self, x: float, y: float) -> None:
        """With a finger, at a point of the window."""
        for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
            self._driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def press(self, *keys: str) -> None:
        """By the names that selenium has for them: TAB, ARROW_LEFT."""
        typed = [getattr(Keys, key) for key in keys]
        webdriver.ActionChains(self._driver).send_keys(*typed).perform()

    def dark(self, is_dark: bool) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def too_wide(self) -> list[str]:
        """What does not fit the window's width."""
        found: list[str] = self.run(TOO_WIDE)
        return found

    def complaints(self) -> list[str]:
        """What the console said since the last call, if it was no mere chat."""
        return [
            entry["message"]
            for entry in self._driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] in ("WARNING", "SEVERE")
        ]

    def requests(self) -> list[str]:
        """URLs that were asked for since the last call."""
        entries = self._driver.get_log("performance")  # type: ignore[no-untyped-call]
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def open_browser(need: Callable[[str], str]) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = need("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(need("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
