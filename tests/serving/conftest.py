"""The application over a small real memory and the tiny student, in this process, without Ray."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serving.config import ServeConfig, method_of
from serving.gateway import Gateway, build_app
from serving.logs import JsonFormatter
from serving.ports import Retriever, Student
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.serving.browsers import chromium, chromium_path, tab

BASE = "http://127.0.0.1"
"""Without keys, only this machine's names are answered."""


@pytest.fixture(scope="session")
def serve_config(small_memory: Path) -> ServeConfig:
    return ServeConfig(memory=str(small_memory / "runs" / "memory"))


@pytest.fixture(scope="session")
def retriever(serve_config: ServeConfig) -> Iterator[MemoryRetriever]:
    found = MemoryRetriever.open(serve_config, method_of(serve_config))
    yield found
    found.close()


@pytest.fixture(scope="session")
def student(retriever: MemoryRetriever) -> EngineStudent:
    return EngineStudent(retriever.session.engine)


def make_app(config: ServeConfig, retriever: Retriever, student: Student) -> FastAPI:
    return build_app(Gateway(config=config, retriever=retriever, student=student))


@contextmanager
def logged() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Give what the block has logged, as the deployments write it."""
    text, logger = io.StringIO(), logging.getLogger("marc")
    handler, level = logging.StreamHandler(text), logger.level
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lambda: [json.loads(line) for line in text.getvalue().splitlines()]
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture(scope="session")
def app(serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent) -> FastAPI:
    return make_app(serve_config, retriever, student)


@pytest.fixture(scope="session")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A running Chromium. It is closed after each module: while Playwright runs, no other test of
    the process could use asyncio.run."""
    if chromium_path() is None:
        pytest.skip("no Chromium here: install Debian's `chromium`, or name one in $CHROMIUM")
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An open tab; nothing may break the policy or raise in it."""
    with tab(browser) as found:
        yield found
