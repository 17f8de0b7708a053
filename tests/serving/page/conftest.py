"""A browser on the page over a fake server. It is closed after each module: while Playwright runs,
no other test of the process could use asyncio.run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.browsers import PATIENCE_MS, chromium, chromium_path
from tests.serving.page.fake import FakeServer, fake_app, running

TEXTS = ["Someone opens the door.", None, "The light goes on."]


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory, clip_writer: Callable[..., Path]) -> Any:
    folder = tmp_path_factory.mktemp("media")
    return {n: clip_writer(folder / n, seconds=10.0) for n in ("gate.mp4", "lobby.mp4")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if chromium_path() is None:
        pytest.skip("no Chromium here: install Debian's `chromium`, or name one in $CHROMIUM")
    with chromium() as found:
        yield found


@pytest.fixture
def fake(media: dict[str, Path]) -> Iterator[FakeServer]:
    """Two videos of five events; the first has a camera, tags, speech and a recorded time."""
    server = FakeServer(media=media)
    server.add("v1", "gate.mp4", camera="gate 3", tags=["night"], texts=TEXTS,
               recorded_at="2026-03-01T22:15:00+01:00")  # fmt: skip
    server.add("v2", "lobby.mp4", tags=["day"])
    with running(fake_app(server)) as (url, _):
        server.url = url
        yield server


@pytest.fixture
def page(browser: Any, fake: FakeServer) -> Iterator[Any]:
    """An open tab; nothing may break the policy or raise in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    tab, wrong = context.new_page(), []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on(
        "console",
        lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None,
    )
    yield tab
    context.close()
    assert not wrong
