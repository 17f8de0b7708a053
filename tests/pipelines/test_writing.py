"""Commits are made by volume and by time, none is held back, and a busy writer gets help."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from marc_core.config import IndexConfig
from pipelines import writing
from pipelines.writing import Commits, Written, with_pauses


@dataclass
class FakeRay:
    """Just enough of Ray: a write is done when `finish` says so."""

    commits: list[list[str]] = field(default_factory=list)
    open: dict[str, Written] = field(default_factory=dict)
    holds: bool = False

    def wait(self, references: list[str], num_returns: int, timeout: float | None):
        ready = [r for r in references if not self.holds or timeout is None][:num_returns]
        return ready, []

    def get(self, reference: str) -> Written:
        return self.open.pop(reference)


class FakeWriter:
    def __init__(self, ray: FakeRay, videos_a_parcel: int) -> None:
        self.ray, self.videos = ray, videos_a_parcel
        self.write = self

    def remote(self, parcels: list[str]) -> str:
        self.ray.commits.append(parcels)
        reference = f"commit{len(self.ray.commits)}"
        self.ray.open[reference] = Written(len(parcels) * self.videos, 0)
        return reference


@dataclass
class Bundle:
    block_refs: list[str]
    bytes: int = 10

    def size_bytes(self) -> int:
        return self.bytes


def run(monkeypatch, bundles: Any, *, videos_a_parcel: int = 1, holds: bool = False, **config):
    fake = FakeRay(holds=holds)
    monkeypatch.setattr(writing, "ray", fake)
    done = []
    commits = Commits(
        lambda: FakeWriter(fake, videos_a_parcel),
        IndexConfig(**config),
        lambda videos, failed: done.append(videos),
    )
    commits.run(bundles)
    return fake.commits, done, commits


def bundles(count: int, size: int = 10) -> list[Bundle]:
    return [Bundle([f"p{i}"], size) for i in range(count)]


def test_a_commit_is_full_by_videos_and_the_rest_goes_at_the_end(monkeypatch) -> None:
    commits, done, _ = run(monkeypatch, bundles(10), write_videos=4)
    assert [len(c) for c in commits] == [4, 4, 2]
    assert sum(done) == 10
    assert [p for c in commits for p in c] == [f"p{i}" for i in range(10)]


def test_a_commit_is_full_by_bytes(monkeypatch) -> None:
    commits, _, _ = run(monkeypatch, bundles(6, size=40), write_videos=100, write_bytes=100)
    assert [len(c) for c in commits] == [3, 3]


def test_parcels_of_many_videos_count_as_many_once_that_is_known(monkeypatch) -> None:
    commits, done, _ = run(monkeypatch, bundles(40), videos_a_parcel=64, write_videos=256)
    assert sum(done) == 40 * 64
    assert len(commits[-1]) <= 4 or len(commits) == 1


def test_a_finished_video_is_written_after_the_interval(monkeypatch) -> None:
    written_when_the_second_came = []

    def slowly():
        yield Bundle(["p0"])
        time.sleep(1.0)
        written_when_the_second_came.append(len(writing.ray.commits))
        yield Bundle(["p1"])

    commits, _, _ = run(monkeypatch, slowly(), write_videos=100, write_interval_s=0.2)
    assert written_when_the_second_came == [1]
    assert [len(c) for c in commits] == [1, 1]


def test_busy_writers_get_help_up_to_a_limit(monkeypatch) -> None:
    commits, done, used = run(monkeypatch, bundles(40), write_videos=1, holds=True)
    assert len(commits) == 40 == sum(done)
    assert len(used.writers) == writing.MOST_WRITERS


def test_what_the_chain_raises_is_raised_and_nothing_is_swallowed(monkeypatch) -> None:
    def broken():
        yield Bundle(["p0"])
        raise RuntimeError("the chain broke")

    with pytest.raises(RuntimeError, match="the chain broke"):
        run(monkeypatch, broken(), write_videos=100)


def test_pauses_are_reported_between_items() -> None:
    def slowly():
        yield 1
        time.sleep(0.5)
        yield 2

    seen = list(with_pauses(slowly(), 0.1))
    assert [x for x in seen if x is not None] == [1, 2]
    assert None in seen
