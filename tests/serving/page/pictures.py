"""Pictures of the page for the documentation, of the real application over a small world archive:

python -m tests.serving.page.pictures docs/images
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from marc_core.world import Question, make_questions, sample_video, write_mp4
from serving.config import ServeConfig, method_of
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.marc_core.memories import FIVE_SCENES, index_videos
from tests.serving.browsers import chromium, until
from tests.serving.conftest import make_app
from tests.serving.page.fake import running

CAMERAS = {
    "gate-3-night.mp4": ("gate 3", ["night"], "Someone opens the door and waits."),
    "lobby.mp4": ("lobby", ["day"], "The lift is out of order today."),
    "parking-east.mp4": ("east side", ["day", "rain"], "Please move the van."),
}
SCREENS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 760}, "color_scheme": "light"},
}
MOST_BYTES = 200_000


def make_archive(folder: Path) -> list[Question]:
    """Write the videos with what stands beside them; return questions about them."""
    folder.mkdir()
    questions: list[Question] = []
    world = dataclasses.replace(FIVE_SCENES, size_px=336)
    for seed, (name, (camera, tags, said)) in enumerate(CAMERAS.items(), start=7001):
        video = sample_video(seed, world)
        write_mp4(video, folder / name)
        facts = {"camera": camera, "tags": tags, "recorded_at": f"2026-03-0{seed - 7000}T22:15Z"}
        (folder / name).with_suffix(".json").write_text(json.dumps(facts))
        caption = f"1\n00:00:02,600 --> 00:00:04,000\n{said}\n"
        (folder / name).with_suffix(".srt").write_text(caption)
        questions += [q for q in make_questions(video, seed=0) if q.options]
    return questions


def answered(app: FastAPI, questions: list[Question]) -> Question:
    """Return the first question that the student answers rightly: pictures show the page, not how
    good the student is (docs/results.md)."""
    client = TestClient(app, base_url="http://127.0.0.1")
    for question in questions:
        messages = [{"role": "user", "content": question.text}]
        body = {"model": "marc", "messages": messages, "marc": {"options": question.options}}
        answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
        if answer["choices"][0]["message"]["content"] == question.answer_text:
            return question
    raise SystemExit("The student answers none of the questions rightly.")


def take(page: Any, path: Path) -> None:
    """Write a picture once nothing moves any more."""
    page.mouse.move(5, 5)
    page.wait_for_timeout(700)
    page.screenshot(path=path)
    image = Image.open(path).convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        image.quantize(256).save(path, optimize=True)


def main(out: Path) -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        archive, memory = Path(folder) / "archive", Path(folder) / "memory"
        questions = make_archive(archive)
        index_videos(archive, memory)
        config = ServeConfig(memory=str(memory), settings=("retrieve.k=3",))
        retriever = MemoryRetriever.open(config, method_of(config))
        app = make_app(config, retriever, EngineStudent(retriever.session.engine))
        question = answered(app, questions)
        with running(app) as (url, _):
            for name, screen in SCREENS.items():
                context = browser.new_context(**screen, locale="en-GB")
                visit(context.new_page(), url, question, out, name)
                context.close()
        retriever.close()


def visit(page: Any, url: str, question: Question, out: Path, screen: str) -> None:
    """Take the pictures of one screen."""
    page.goto(url)
    page.locator(".glance li").first.wait_for()
    if screen == "dark":
        take(page, out / "page-start-dark.png")
    page.get_by_text("Options").click()
    page.get_by_label("Possible answers").fill("\n".join(question.options))
    page.get_by_text("Options").click()
    page.get_by_label("Your question").fill(question.text)
    page.keyboard.press("Enter")
    page.locator(".facts summary").click()
    page.evaluate("window.scrollTo(0, 0)")
    if screen != "dark":
        take(page, out / f"page-answer-{screen}.png")
    page.goto(f"{url}/#/videos")
    page.get_by_role("link", name="gate-3-night.mp4").click()
    page.locator(".moment").nth(1).click()
    until(page, "document.querySelector('video').currentTime > 0.5")
    page.evaluate("document.querySelector('video').pause()")
    page.evaluate("window.scrollTo(0, 0)")
    if screen != "light":
        take(page, out / f"page-video-{screen}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
