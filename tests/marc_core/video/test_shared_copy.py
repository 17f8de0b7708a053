"""One copy of a remote file for all that work on it on a machine. Locks are of open files, so two
holders in one process are as two processes."""

from __future__ import annotations

import os
import threading

import pytest
from pyarrow.fs import LocalFileSystem

from marc_core.errors import SourceError
from marc_core.video import shared_copy
from marc_core.video.shared_copy import HeldFile
from marc_core.video.source import Location, store_source


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An object store that is a folder, and the addresses that were fetched from it."""
    (tmp_path / "store").mkdir()
    place = Location(scheme="s3", path="", store=LocalFileSystem())
    fetched = []

    def find(source, options):
        path = source.uri.removeprefix("s3://")
        return Location(scheme="s3", path=path, store=place.store)

    def fetch(source, place, copy):
        fetched.append(source.uri)
        real_fetch(source, place, copy)

    real_fetch = shared_copy.fetch
    monkeypatch.setattr(shared_copy, "find", find)
    monkeypatch.setattr(shared_copy, "fetch", fetch)

    def put(name, data=b"x" * 1000):
        path = tmp_path / "store" / name
        path.write_bytes(data)
        info = place.store.get_file_info(str(path))
        return store_source(place, info)

    return put, fetched


def kill(holder):
    """Let the kernel close the holder's file; nothing is deleted."""
    _, _, (_, file), _ = holder._release.detach()
    file.close()


def copies(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != "lock")


def test_two_holders_share_one_copy_and_the_last_deletes_it(store, tmp_path):
    put, fetched = store
    video, folder = put("a.mp4"), tmp_path / "copies"
    first, second = HeldFile(str(folder)), HeldFile(str(folder))
    path = first.path(video, {})
    assert first.path(video, {}) == second.path(video, {}) == path
    assert path.endswith(".mp4")
    assert fetched == [video.uri]
    first.release()
    assert len(copies(folder)) == 1
    second.release()
    assert copies(folder) == []


def test_another_file_takes_the_place_of_the_one_before_and_a_holder_that_goes_lets_go(
    store, tmp_path
):
    put, _ = store
    folder, holder = tmp_path / "copies", HeldFile(str(tmp_path / "copies"))
    holder.path(put("a.mp4"), {})
    path = holder.path(put("b.mp4"), {})
    assert copies(folder) == [os.path.basename(path)]
    del holder
    assert copies(folder) == []


def test_who_comes_meanwhile_waits_for_the_one_who_fetches(store, tmp_path, monkeypatch):
    put, fetched = store
    video, holders = put("a.mp4"), [HeldFile(str(tmp_path / "copies")) for _ in range(4)]
    begun, go_on = threading.Event(), threading.Event()
    quick = shared_copy.fetch

    def slow(source, place, copy):
        begun.set()
        assert go_on.wait(20)
        quick(source, place, copy)

    monkeypatch.setattr(shared_copy, "fetch", slow)
    found = []
    threads = [
        threading.Thread(target=lambda h=holder: found.append(h.path(video, {})))
        for holder in holders
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert fetched == [video.uri]
    assert len(found) == 4
    assert len(set(found)) == 1
    for holder in holders:
        holder.release()
    assert copies(tmp_path / "copies") == []


def test_what_a_killed_holder_left_is_used_if_complete_and_else_goes(store, tmp_path):
    put, fetched = store
    video, folder = put("a.mp4"), tmp_path / "copies"
    holder = HeldFile(str(folder))
    path = holder.path(video, {})
    kill(holder)
    holder = HeldFile(str(folder))
    assert holder.path(video, {}) == path
    assert fetched == [video.uri]
    kill(holder)
    os.truncate(path, 10)
    (folder / "left.mp4").write_bytes(b"of another run")
    holder = HeldFile(str(folder))
    assert holder.path(video, {}) == path
    assert os.path.getsize(path) == 1000
    assert fetched == [video.uri] * 2
    assert copies(folder) == [os.path.basename(path)]
    holder.release()


def test_a_fetch_that_fails_leaves_nothing(store, tmp_path):
    put, _ = store
    video = put("a.mp4")
    put("a.mp4", b"changed")
    holder = HeldFile(str(tmp_path / "copies"))
    with pytest.raises(SourceError, match="has changed"):
        holder.path(video, {})
    assert copies(tmp_path / "copies") == []


def test_a_folder_that_somebody_else_made_is_refused(store, tmp_path, monkeypatch):
    put, fetched = store
    video, folder = put("a.mp4"), tmp_path / "copies"
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="or a link"):
        HeldFile(str(folder)).path(video, {})
    folder.unlink()
    folder.mkdir()
    monkeypatch.setattr(shared_copy.os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(SourceError, match="which is another's"):
        HeldFile(str(folder)).path(video, {})
    assert fetched == []
