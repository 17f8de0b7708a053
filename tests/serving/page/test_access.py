"""The page for everybody: axe's findings, keyboard, narrow windows, both colour schemes."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.serving.page.fake import FakeServer

pytestmark = pytest.mark.slow  # a real browser: `make test-all`

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def check(page: Any, place: str) -> None:
    page.wait_for_timeout(250)  # colours fade in
    found = Axe().run(page, options=RULES).response["violations"]
    told = [(v["id"], v["impact"], [n["html"][:200] for n in v["nodes"]]) for v in found]
    assert not told, place
    width, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= window, f"{place} is wider than the window"
    lines = page.locator("header.top a:visible, header.top button:visible").evaluate_all(
        "all => all.map(e => [e.textContent.trim(), e.getBoundingClientRect().height])"
    )
    assert lines
    assert all(height < 45 for _, height in lines), f"{place}: words break in the header: {lines}"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light")])
def test_every_view_is_accessible(page: Any, fake: FakeServer, width: int, scheme: str) -> None:
    fake.add("v3", "broken.mp4", status="failed", error={"kind": "decode", "message": "Cut."})
    page.set_viewport_size({"width": width, "height": 740})
    page.emulate_media(color_scheme=scheme)
    page.goto(fake.url)
    page.locator(".glance li").first.wait_for()
    check(page, "start")
    page.get_by_label("Your question").fill("Which way?")
    page.keyboard.press("Enter")
    page.locator(".facts summary").click()
    page.get_by_role("button", name="Play clip 1").click()
    check(page, "answer")
    page.goto(f"{fake.url}/#/search?q=door&tag=night")
    page.locator(".event").first.wait_for()
    page.get_by_text("Filters (1)").click()
    page.get_by_role("combobox", name="Video").focus()
    page.get_by_role("option").first.wait_for()
    check(page, "search")
    page.goto(f"{fake.url}/#/videos")
    page.locator("[data-video]").first.wait_for()
    page.get_by_role("button", name="Add videos").click()
    check(page, "videos")
    page.get_by_role("button", name="Delete gate.mp4").click()
    check(page, "confirm")
    page.keyboard.press("Escape")
    page.goto(f"{fake.url}/#/video/v1?t=1")
    page.get_by_role("button", name="0:00 to 0:02").click()
    page.get_by_label("This moment").wait_for()
    check(page, "video")
    fake.errors["/v1/search"] = (503, "overloaded", "Come again.")
    page.goto(f"{fake.url}/#/search?q=door")
    page.get_by_role("alert").get_by_text("The server is busy").wait_for()
    check(page, "error")


def test_the_keyboard_reaches_everything(page: Any, fake: FakeServer) -> None:
    page.goto(fake.url)
    page.locator(".glance li").first.wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type("Which way?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("Say it.")
    page.keyboard.press("Enter")
    page.locator(".facts").wait_for()
    assert fake.asked[0]["messages"][0]["content"] == "Which way?\nSay it."
    page.get_by_role("link", name="Videos", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Videos")).to_be_focused()
    expect(page).to_have_title("Videos – MARC")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "gate.mp4":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="gate.mp4")).to_be_focused()
