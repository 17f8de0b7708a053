"""The server that is attacked: uploads beside files that nobody may read, limits that end soon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI

from marc_core.question import EventFilter
from serving.config import LimitConfig, ServeConfig, UploadConfig
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.serving.conftest import make_app

SECRET = b"nobody may read this"
LIMITS = LimitConfig(
    body_bytes=300_000, body_stall_s=0.2, body_deadline_s=0.5, reader_stall_s=0.2, deadline_s=30
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("attacked")
    (found / "up").mkdir()
    for name in ("secret", "up/secret", "keys.json.js"):
        (found / name).write_bytes(SECRET)
    return found


@pytest.fixture(scope="module")
def app(
    folder: Path, serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent
) -> FastAPI:
    uploads = UploadConfig(folder=str(folder / "up"), roots=("s3://bucket/cams", "/nowhere/videos"))
    config = replace(serve_config, uploads=uploads, limits=LIMITS)
    return make_app(config, retriever, student)


@pytest.fixture(scope="module")
def video_ids(retriever: MemoryRetriever) -> list[str]:
    return sorted({e.video_id for e in retriever.session.archive.events(EventFilter(), limit=1000)})
