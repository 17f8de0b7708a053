"""The page over the real application: a real memory, the tiny student, a real Chromium."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import expect

from serving.config import ServeConfig, UploadConfig, method_of
from serving.keys import KeyFile, new_key
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from serving.uploads import Uploads, now
from tests.marc_core.memories import CAPTION, ODD_NAME, index_videos
from tests.serving.browsers import until
from tests.serving.conftest import make_app
from tests.serving.page.fake import running

pytestmark = pytest.mark.slow  # a real browser: `make test-all`

AT = "document.querySelector('video')?.currentTime"


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


@pytest.fixture
def growing(tmp_path: Path, small_memory: Path, student: EngineStudent) -> Iterator[FastAPI]:
    """The application over a memory of its own that takes uploads. They are indexed in a thread
    here, as the indexer's deployment does it with Ray (tests/serving/test_serve.py)."""
    memory, uploads = tmp_path / "memory", UploadConfig(folder=str(tmp_path / "uploads"))
    shutil.copytree(small_memory / "runs" / "memory", memory)
    config = ServeConfig(memory=str(memory), uploads=uploads)
    queue, closing = Uploads(uploads), threading.Event()

    def work() -> None:
        while not closing.wait(0.2):
            job = queue.next_job()
            if job is None:
                continue
            name, none = job["job_id"], {"done": 0, "failed": 0, "total": 1}
            queue.update(name, status="running", started_at=now(), progress=none)
            store = index_videos(Path(job["uri"]).parent, memory)
            video = store.get_video(job["uri"])
            assert video is not None
            done = {"status": "done", "progress": none | {"done": 1}, "ended_at": now()}
            queue.update(name, video_ids=[video["video_id"]], **done)

    worker = threading.Thread(target=work)
    worker.start()
    retriever = MemoryRetriever.open(config, method_of(config))
    yield make_app(config, retriever, student)
    closing.set()
    worker.join()
    retriever.close()


def test_an_upload_can_be_asked_about_and_a_deleted_video_is_gone(
    page: Any, growing: FastAPI, tmp_path: Path, clip_writer: Callable[..., Path]
) -> None:
    path = clip_writer(tmp_path / "holiday.mp4", seconds=6.0, seed=5)
    files = tmp_path / "uploads" / "files"
    with running(growing) as (url, _):
        page.goto(f"{url}/#/videos")
        expect(page.locator("[data-video]")).to_have_count(3)
        page.get_by_role("button", name="Add videos").click()
        page.get_by_label("Video files").set_input_files(path)
        line = page.locator(".job")
        expect(line.get_by_role("progressbar")).to_be_visible()
        expect(line).to_contain_text("Indexed. You can ask about it now.", timeout=60_000)
        expect(page.locator("[data-video]")).to_have_count(4)
        assert [file.name for file in files.rglob("*.mp4")] == ["holiday.mp4"]
        line.get_by_role("link", name="Open").click()
        page.get_by_role("button", name="Ask about holiday.mp4").click()
        page.get_by_label("Your question").fill("What moves?")
        page.keyboard.press("Enter")
        cited = page.get_by_role("article").locator(".event .name")
        expect(cited.first).to_have_text("holiday.mp4")
        cited.first.click()
        page.get_by_role("button", name="Delete holiday.mp4").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_role("heading", name="Videos")).to_be_visible()
        expect(page.locator("[data-video]")).to_have_count(3)
        assert list(files.rglob("*.mp4")) == []
        page.goto(f"{url}/#/search?q=textures")
        names = page.get_by_label("Results").locator(".event .name")
        expect(names.first).to_be_visible()
        assert "holiday.mp4" not in names.all_text_contents()
