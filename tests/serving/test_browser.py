"""The page over the real application: a real memory, the tiny student, a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import expect

from serving.config import ServeConfig
from serving.keys import KeyFile, new_key
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.marc_core.memories import CAPTION, ODD_NAME
from tests.serving.browsers import chromium, chromium_path, until
from tests.serving.conftest import make_app
from tests.serving.page.fake import running

AT = "document.querySelector('video')?.currentTime"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if chromium_path() is None:
        pytest.skip("no Chromium here: install Debian's `chromium`, or name one in $CHROMIUM")
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(20_000)
    tab, wrong = context.new_page(), []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on(
        "console",
        lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None,
    )
    yield tab
    context.close()
    assert not wrong


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    with running(app) as (found, _):
        yield found


def test_ask_and_play_what_the_answer_rests_on(page: Any, url: str) -> None:
    page.goto(url)
    expect(page.get_by_role("heading", name="3 videos to ask about")).to_be_visible()
    page.get_by_label("Your question").fill("What colour is the circle?")
    page.keyboard.press("Enter")
    turn = page.get_by_role("article")
    expect(turn.locator(".saved")).to_contain_text("fewer visual tokens")
    assert turn.locator(".answer-text").text_content()
    with page.expect_response(lambda response: "/media" in response.url) as media:
        card = turn.locator(".event").last
        card.get_by_role("button").click()
    assert media.value.status == 206
    starts_s = float(card.locator("a.name").get_attribute("href").split("t=")[1])
    until(page, f"{AT} > {starts_s} + 0.1")
    assert page.evaluate(AT) < starts_s + 3
    turn.get_by_role("link", name="Show in the video").click()
    until(page, f"Math.abs({AT} - {starts_s}) < 0.05")
    expect(page.get_by_label("Timeline").locator(".moment[aria-current]")).to_have_count(1)


def test_find_what_was_said_and_see_it_as_it_is(page: Any, url: str) -> None:
    page.goto(f"{url}/#/search?q=needle")
    first = page.get_by_label("Results").locator(".event").first
    expect(first.locator(".name")).to_have_text(ODD_NAME)
    expect(first.locator(".said")).to_contain_text(CAPTION)
    assert first.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    first.locator(".name").click()
    page.get_by_label("Timeline").get_by_role("button").first.click()
    expect(page.get_by_label("This moment")).to_contain_text("needle in the haystack Subtitle")


def test_a_key_without_a_scope_sees_why(
    page: Any,
    tmp_path: Path,
    serve_config: ServeConfig,
    retriever: MemoryRetriever,
    student: EngineStudent,
) -> None:
    key, token = new_key("front desk", ("read",))
    KeyFile(tmp_path / "keys.json").change(lambda every: every.update({key.id: key}))
    config = replace(serve_config, keys=str(tmp_path / "keys.json"))
    with running(make_app(config, retriever, student)) as (url, _):
        page.goto(url)
        field = page.get_by_role("dialog").get_by_label("API key", exact=True)
        field.fill("mk_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()
        field.fill(token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("note")).to_contain_text("Your key “front desk” may not ask")
        page.get_by_role("link", name="Videos", exact=True).click()
        picture = page.locator("[data-video] img").first  # by a signed link: images send no key
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)")
