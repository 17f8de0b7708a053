"""The OpenAPI document is true: schemathesis finds nothing in it or in the answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI

from serving.access import SCOPES
from serving.config import LimitConfig, ServeConfig, UploadConfig, method_of
from serving.keys import KeyFile, new_key
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.serving.conftest import make_app
from tests.serving.fuzzing import Found, fuzz

Locked = tuple[FastAPI, str]


def locked(config: ServeConfig, folder: Path, retriever: MemoryRetriever) -> Locked:
    """Return the application with keys and uploads, and a key that may do everything."""
    key, token = new_key("all", SCOPES, requests_per_minute=10**6, concurrent_requests=10**6)
    KeyFile(folder / "keys.json").change(lambda every: every.update({key.id: key}))
    config = replace(
        config,
        keys=str(folder / "keys.json"),
        uploads=UploadConfig(folder=str(folder / "up"), max_waiting=10**6),
        limits=LimitConfig(body_stall_s=5),
    )
    return make_app(config, retriever, EngineStudent(retriever.session.engine)), token


@pytest.fixture
def own(small_memory: Path, tmp_path: Path) -> Iterator[MemoryRetriever]:
    """A retriever over a memory of the test's own, which may lose its videos."""
    shutil.copytree(small_memory / "runs" / "memory", tmp_path / "memory")
    config = ServeConfig(memory=str(tmp_path / "memory"))
    found = MemoryRetriever.open(config, method_of(config))
    yield found
    found.close()


def clean(found: Found, at_least: int) -> None:
    assert not found.failures, "\n".join(sorted(set(found.failures))[:20])
    assert found.cases >= at_least
    assert all(0 not in counts for counts in found.statuses.values())


def test_what_the_document_says_holds(
    serve_config: ServeConfig, retriever: MemoryRetriever, tmp_path: Path
) -> None:
    app, token = locked(serve_config, tmp_path, retriever)
    clean(fuzz(app, token, examples=2, edges=False, chains=False, without="DELETE"), 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_the_document_says_holds_in_chains_and_after_deletions(
    own: MemoryRetriever, tmp_path: Path
) -> None:
    app, token = locked(ServeConfig(memory=own.session.config.memory.uri), tmp_path, own)
    kept = fuzz(app, token, examples=100, edges=True, chains=True, without="DELETE")
    clean(kept, 2000)
    every = fuzz(app, token, examples=30, edges=True, chains=True)
    clean(every, 1000)
