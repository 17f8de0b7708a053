"""A small fake server for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.page.fake import FakeServer, fake_app, running

TEXTS = ["Someone opens the door.", None, "The light goes on."]


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory, clip_writer: Callable[..., Path]) -> Any:
    folder = tmp_path_factory.mktemp("media")
    return {n: clip_writer(folder / n, seconds=10.0) for n in ("gate.mp4", "lobby.mp4")}


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
