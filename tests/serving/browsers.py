"""A real headless Chromium for tests of the page."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

PATIENCE_MS = 20_000
"""Before a test gives up: machines that test are busy."""


def chromium_path() -> str | None:
    """Return this machine's Chromium: $CHROMIUM, or what the PATH has under a usual name."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a running browser."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)

    arguments = [
        "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--mute-audio",
        "--autoplay-policy=no-user-gesture-required",
    ]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Any) -> Iterator[Any]:
    """Yield an open tab; nothing may break the policy or raise in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    opened, wrong = context.new_page(), []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "console",
        lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None,
    )
    yield opened
    context.close()
    assert not wrong


def until(page: Any, condition: str, timeout_s: float = PATIENCE_MS / 1000) -> None:
    """Wait until a JavaScript expression is true. Playwright's own way needs eval in the page,
    which the page's policy forbids."""
    ends = time.monotonic() + timeout_s
    while not page.evaluate(condition):
        assert time.monotonic() < ends, f"not within {timeout_s:g} s: {condition}"
        page.wait_for_timeout(50)
