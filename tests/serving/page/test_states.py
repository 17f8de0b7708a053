"""Every state of the page, in a real browser over a fake server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.serving.browsers import PATIENCE_MS, until
from tests.serving.page.fake import FakeServer, fake_app, running

pytestmark = pytest.mark.slow  # a real browser: `make test-all`

QUESTION = "Which way does it move?"
AT = "document.querySelector('video')?.currentTime"


def ask(page: Any, question: str = QUESTION) -> Any:
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")
    return page.get_by_role("article").last


def until_asked(page: Any, fake: FakeServer, filter: dict[str, Any]) -> None:
    """Wait until the last search had this filter."""
    ends = time.monotonic() + PATIENCE_MS / 1000
    while fake.asked[-1]["filter"] != filter:
        assert time.monotonic() < ends, fake.asked
        page.wait_for_timeout(50)


def test_an_answer_comes_in_pieces_with_clips_that_start_where_they_should(
    page: Any, fake: FakeServer
) -> None:
    fake.hold = True
    page.goto(fake.url)
    turn = ask(page)
    expect(turn.locator(".answer-text")).to_have_text("It moves")
    expect(turn.locator("[aria-live]")).to_have_attribute("aria-busy", "true")
    expect(page.get_by_label("Stop the answer")).to_be_visible()
    fake.hold = False
    expect(turn.locator(".answer-text")).to_have_text("It moves to the left.")
    expect(turn.locator("[aria-live]")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_label("Your question")).to_be_focused()
    assert turn.locator(".saved").text_content() == "93 % fewer visual tokens"
    turn.get_by_role("button", name="Play clip 2: gate.mp4, 0:04 to 0:06").click()
    until(page, f"{AT} > 4.2 && {AT} < 6")
    until(page, "document.querySelector('video').paused")
    assert 5.8 < page.evaluate(AT) < 6.5


def test_a_second_question_carries_the_first_and_the_filters(page: Any, fake: FakeServer) -> None:
    page.goto(f"{fake.url}/#/video/v1")
    page.get_by_role("button", name="Ask about gate.mp4").click()
    ask(page).locator(".facts").wait_for()
    page.get_by_text("Options").click()
    page.get_by_label("Possible answers").fill("left\n\n right ")
    ask(page, "And then?").locator(".facts").wait_for()
    first, second = fake.asked
    assert first["messages"] == [{"role": "user", "content": QUESTION}]
    assert first["marc"] == {"filter": {"video_ids": ["v1"]}}
    assert second["marc"] == {"filter": {"video_ids": ["v1"]}, "options": ["left", "right"]}
    assert [turn["role"] for turn in second["messages"]] == ["user", "assistant", "user"]
    page.get_by_role("link", name="Videos", exact=True).click()
    page.get_by_role("heading", name="Videos").wait_for()
    page.go_back()
    expect(page.get_by_role("article")).to_have_count(2)
    page.get_by_role("button", name="Remove filter: gate.mp4").click()
    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_role("article")).to_have_count(0)


def test_an_answer_can_be_stopped_and_a_broken_one_asked_again(page: Any, fake: FakeServer) -> None:
    fake.delay_s = 30.0
    page.goto(f"{fake.url}/#/search")
    page.get_by_role("link", name="Ask", exact=True).click()
    turn = ask(page)
    page.get_by_label("Stop the answer").click()
    expect(turn.get_by_text("Stopped.")).to_be_visible()
    fake.delay_s, fake.break_off = 0.0, True
    turn = ask(page)
    expect(turn.get_by_role("alert")).to_contain_text("The server does not answer")
    fake.break_off = False
    turn.get_by_role("button", name="Try again").click()
    expect(turn.locator(".facts")).to_be_visible()
    expect(turn.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize(
    ("status", "code", "title"),
    [
        (503, "overloaded", "The server is busy"),
        (409, "missing_features", "Not ready for answers yet"),
        (422, "unanswerable", "This cannot be answered"),
        (429, "rate_limit", "Too many requests"),
        (500, "internal_error", "Something went wrong"),
    ],
)
def test_an_error_is_shown_in_the_servers_words(
    page: Any, fake: FakeServer, status: int, code: str, title: str
) -> None:
    fake.errors["/v1/chat/completions"] = (status, code, "Run <b>marc index</b> first.")
    page.goto(fake.url)
    alert = ask(page).get_by_role("alert")
    expect(alert).to_contain_text(title)
    expect(alert).to_contain_text("Run <b>marc index</b> first.")


def test_search_pages_filters_and_finds_nothing(page: Any, fake: FakeServer) -> None:
    for i in range(3, 6):
        fake.add(f"v{i}", "lobby.mp4")
    page.goto(f"{fake.url}/#/search?q=door&tag=night")
    results = page.get_by_label("Results")
    expect(results.locator(".event")).to_have_count(12)
    assert fake.asked[0]["filter"] == {"tags": ["night"]}
    page.get_by_role("button", name="Show more").click()
    expect(results.locator(".event")).to_have_count(24)
    page.get_by_text("Filters (1)").click()
    page.get_by_label("Camera").select_option("gate 3")
    page.get_by_label("Recorded after").fill("2026-03-01T20:00")
    page.get_by_label("Recorded after").blur()
    until(page, "location.hash.includes('from=2026')")
    page.get_by_role("combobox", name="Video").fill("gat")
    page.get_by_role("option", name="gate.mp4").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    until(page, "location.hash.includes('video=v1')")
    page.reload()
    expect(results.locator(".event")).to_have_count(5)
    filter = fake.asked[-1]["filter"]
    assert filter.pop("recorded_from") is not None
    assert filter == {"tags": ["night"], "camera": "gate 3", "video_ids": ["v1"]}
    expect(page.get_by_role("button", name="Remove filter: gate.mp4")).to_be_visible()
    page.get_by_label("What to look for").fill("nothing")
    page.keyboard.press("Enter")
    expect(results.get_by_role("heading")).to_have_text("Nothing found for “nothing”")


def test_a_search_is_narrowed_to_kinds_of_text(page: Any, fake: FakeServer) -> None:
    page.goto(f"{fake.url}/#/search?q=door&kind=writing&kind=nonsense")
    first = page.get_by_label("Results").locator(".event").first
    expect(first).to_contain_text("0:00 said: Someone opens the door.")
    expect(first.locator("mark")).to_have_text("door")
    assert fake.asked[0]["filter"] == {"kinds": ["writing"]}
    page.get_by_text("Filters (1)").click()
    kinds = page.get_by_role("group", name="Text, any of them")
    expect(kinds.get_by_role("checkbox")).to_have_count(4)
    expect(kinds.get_by_role("checkbox", name="Written")).to_be_checked()
    kinds.get_by_role("checkbox", name="Said").focus()
    page.keyboard.press("Space")
    until(page, "location.hash.includes('kind=speech')")
    expect(kinds.get_by_role("checkbox", name="Said")).to_be_focused()
    until_asked(page, fake, {"kinds": ["speech", "writing"]})
    page.reload()
    page.get_by_role("button", name="Remove filter: Text: Written").click()
    until(page, "!location.hash.includes('writing')")
    until_asked(page, fake, {"kinds": ["speech"]})
    page.get_by_role("link", name="Ask", exact=True).click()
    ask(page).locator(".facts").wait_for()
    assert fake.asked[-1]["marc"] == {"filter": {"kinds": ["speech"]}}


def test_more_like_this_and_search_by_a_picture(page: Any, fake: FakeServer) -> None:
    page.goto(f"{fake.url}/#/search?q=door")
    page.get_by_role("link", name="More like gate.mp4 at 0:04").click()
    expect(page.get_by_role("heading", name="this clip")).to_be_visible()
    assert fake.asked[-1]["event_id"] == "v1:2"
    picture = page.request.get(f"{fake.url}/v1/events/v1:0/thumbnail").body()
    file = {"name": "example.jpg", "mimeType": "image/jpeg", "buffer": picture}
    page.get_by_label("Example picture").set_input_files(file)
    expect(page.get_by_role("heading", name="the picture")).to_be_visible()
    assert len(fake.asked[-1]["image"]) > 100
    page.get_by_role("button", name="Play clip: gate.mp4, 0:06 to 0:08").click()
    until(page, f"{AT} > 6.1")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Play clip: gate.mp4, 0:06 to 0:08")).to_be_focused()


def test_a_link_leads_to_a_moment_and_the_timeline_follows(page: Any, fake: FakeServer) -> None:
    page.goto(f"{fake.url}/#/video/v1?t=4.5")
    until(page, f"Math.abs({AT} - 4.5) < 0.05")
    timeline = page.get_by_label("Timeline")
    expect(timeline.get_by_role("button", name="0:04 to 0:06")).to_have_attribute(
        "aria-current", "true"
    )
    timeline.get_by_role("button", name="0:00 to 0:02: Someone opens the door.").click()
    expect(page).to_have_url(f"{fake.url}/#/video/v1?t=0")
    expect(page.get_by_label("This moment")).to_contain_text("Someone opens the door. Said")
    timeline.get_by_label("Find in what was said").fill("LIGHT")
    expect(timeline.get_by_role("listitem")).to_have_count(1)
    page.goto(f"{fake.url}/#/video/gone")
    expect(page.get_by_role("alert")).to_contain_text("It is not there")


def test_upload_shows_progress_and_delete_asks_first(
    page: Any, fake: FakeServer, clip_writer: Callable[..., Any], tmp_path: Any
) -> None:
    path = clip_writer(tmp_path / "new.mp4", seconds=4.0)
    fake.hold = True
    page.goto(f"{fake.url}/#/videos")
    page.get_by_role("button", name="Add videos").click()
    page.get_by_label("Video files").set_input_files(path)
    line = page.locator(".job")
    expect(line).to_contain_text("Waiting for the indexer…")
    expect(line.get_by_role("progressbar")).to_be_visible()
    fake.hold = False
    expect(line).to_contain_text("Indexed. You can ask about it now.")
    videos = page.get_by_label("Videos", exact=True)
    expect(videos.get_by_role("link", name="new.mp4")).to_be_visible()
    delete = videos.get_by_role("button", name="Delete new.mp4")
    delete.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("The uploaded file is deleted, too.")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(delete).to_be_focused()
    assert len(fake.videos) == 3
    delete.click()
    dialog.get_by_role("button", name="Delete").click()
    expect(delete).to_have_count(0)
    assert set(fake.videos) == {"v1", "v2"}


def test_pages_of_videos_and_no_videos(page: Any, fake: FakeServer) -> None:
    for i in range(3, 33):
        fake.add(f"v{i}", "lobby.mp4")
    page.goto(f"{fake.url}/#/videos")
    expect(page.get_by_text("1 – 24 of 32")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("25 – 32 of 32")).to_be_visible()
    page.get_by_label("Tag").select_option("night")
    expect(page.locator("[data-video]")).to_have_count(1)
    page.get_by_label("Name").fill("zebra")
    expect(page.get_by_role("heading", name="No video fits these filters")).to_be_visible()
    fake.videos.clear()
    page.goto(f"{fake.url}/#/")
    expect(page.get_by_text("The archive is empty.")).to_be_visible()
    page.goto(f"{fake.url}/#/videos")
    expect(page.get_by_role("heading", name="No videos yet")).to_be_visible()


def test_a_server_with_keys_asks_for_one(page: Any, fake: FakeServer) -> None:
    fake.keys = {"mk_good": ["ask", "read"], "mk_reader": ["read"]}
    page.goto(fake.url)
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("API key", exact=True).fill("mk_bad")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("This key is not known.")
    dialog.get_by_label("API key", exact=True).fill("mk_reader")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("note")).to_contain_text("it lacks the scope “ask”")
    expect(page.get_by_label("Your question")).to_be_disabled()
    assert page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
    page.get_by_role("link", name="Videos", exact=True).click()
    expect(page.get_by_role("note")).to_contain_text("it lacks the scope “ingest”")
    expect(page.get_by_role("button", name="Add videos")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete gate.mp4")).to_have_count(0)
    page.get_by_role("button", name="API key: guest").click()
    page.get_by_role("button", name="Use another").click()
    dialog.get_by_label("API key", exact=True).fill("mk_good")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    page.get_by_role("link", name="Ask", exact=True).click()
    expect(ask(page).locator(".facts")).to_be_visible()


def test_a_server_that_is_gone_shows_a_state_and_comes_back(page: Any, fake: FakeServer) -> None:
    with running(fake_app(fake)) as (url, _):
        page.goto(f"{url}/#/videos")
        expect(page.locator("[data-video]")).to_have_count(2)
    page.goto(f"{url}/#/search?q=door")
    banner = page.locator("#banner")
    expect(banner).to_contain_text("The server does not answer")
    expect(page.get_by_label("Results").get_by_role("alert")).to_be_visible()
    with running(fake_app(fake), port=int(url.rsplit(":", 1)[1])):
        banner.get_by_role("button", name="Try now").click()
        expect(banner).to_be_hidden()
        expect(page.get_by_label("Results").locator(".event")).to_have_count(10)


def test_markup_in_names_and_speech_is_text(page: Any, fake: FakeServer) -> None:
    evil = '<img src=x onerror="window.hacked=1"><b>.mp4'
    fake.add("v3", evil, camera=evil, tags=[evil], texts=[evil, evil, evil])
    fake.answer = [evil]
    for place in ("videos", "video/v3", "search?q=door"):
        page.goto(f"{fake.url}/#/{place}")
        expect(
            page.get_by_role("main").get_by_text(evil).locator("visible=true").first
        ).to_be_visible()
    page.goto(f"{fake.url}/#/")
    expect(ask(page, evil).locator(".answer-text")).to_have_text(evil)
    assert page.evaluate("window.hacked") is None
