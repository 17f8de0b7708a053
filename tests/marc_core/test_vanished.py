"""What is gone is removed only when it is surely gone; what has moved keeps its events."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from marc_core import schemas, vanished
from marc_core.config import IndexConfig, MemoryConfig
from marc_core.digest import content_digest
from marc_core.errors import SourceError
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.types import VideoSource
from marc_core.vanished import find_moved, find_vanished
from marc_core.video import list_videos, stream_source
from marc_core.video.source import locate
from marc_core.video_rows import base_row

DIM = 4
NOW = Fingerprints(cuts="c", embeddings="e", features=None)
runner = CliRunner()


def publish(store: MemoryStore, source: VideoSource, fingerprints: Fingerprints = NOW) -> None:
    video = base_row(source, 1, fingerprints) | {
        "status": "indexed", "num_events": 1, "num_parts": 1, "duration_s": 5.0,
        "content_digest": content_digest(locate(source.file_uri, {}).path),
    }  # fmt: skip
    event = {
        "event_id": schemas.make_event_id(source.video_id, 0, 0), "part": 0, "index": 0,
        "video_id": source.video_id, "start_s": 0.0, "end_s": 5.0, "video_start_s": 0.0,
        "folder": str(Path(source.uri).parent), "embedding": np.ones(DIM, np.float32),
    }  # fmt: skip
    store.publish(
        pa.Table.from_pylist([video], schema=schemas.VIDEOS),
        pa.Table.from_pylist([event], schema=schemas.events_schema(DIM)),
    )


def listed(folder: Path) -> list[VideoSource]:
    return list(list_videos([str(folder)], ["*.mp4"], {}))


@pytest.fixture
def archive() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for place in ("a/one.mp4", "a/two.mp4", "b/three.mp4"):
            (root / place).parent.mkdir(exist_ok=True)
            (root / place).write_bytes(place.encode() * 100)
        yield root


@pytest.fixture
def store(tmp_path: Path, archive: Path) -> MemoryStore:
    store = MemoryStore.open(MemoryConfig(uri=str(tmp_path / "m")), embedding_dim=DIM, create=True)
    for source in listed(archive):
        publish(store, source)
    return store


def gone(store: MemoryStore, *roots: Path | str, **options: bool) -> list[str]:
    config = IndexConfig(archive=tuple(map(str, roots)), patterns=("*.mp4",), memory=store.config)
    return [Path(row["uri"]).name for row in find_vanished(store, config, **options)]


def test_only_what_is_gone_from_the_listed_places(store: MemoryStore, archive: Path) -> None:
    assert gone(store, archive) == []
    (archive / "a/one.mp4").unlink()
    (archive / "b/three.mp4").unlink()
    (archive / "b/new.mp4").touch()
    assert gone(store, archive / "a") == ["one.mp4"]
    assert sorted(gone(store, archive)) == ["one.mp4", "three.mp4"]


def test_a_whole_archive_that_is_gone_can_be_removed(store: MemoryStore, archive: Path) -> None:
    folder = archive / "b"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    with pytest.raises(SourceError, match=r"does not exist.*--even-empty"):
        gone(store, folder)
    assert gone(store, folder, even_empty=True) == ["three.mp4"]
    assert gone(store, archive / "a", f"{folder}/", even_empty=True) == ["three.mp4"]


def test_addresses_are_compared_however_they_are_written(store: MemoryStore, archive: Path):
    """Bytes that are not UTF-8 are percent-encoded, in the file's name or its folder's."""
    folder = os.fsencode(archive) + b"/d\xe9"
    os.mkdir(folder)
    odd = [os.fsencode(archive) + b"/a/caf\xe9.mp4", folder + b"/four.mp4", folder + b"/x#1.mp4"]
    for path in odd:
        Path(os.fsdecode(path)).write_bytes(path)
    for source in listed(archive):
        if source.uri.startswith("file://"):
            publish(store, source)
    assert gone(store, archive) == []
    for path in odd:
        os.unlink(path)
    assert gone(store, archive / "a") == ["caf%E9.mp4"]
    (archive / os.fsdecode(b"d\xe9") / "five.mp4").touch()
    all_three = ["caf%E9.mp4", "four.mp4", "x%231.mp4"]
    for root in (f"{archive}/", f"file://{archive}", f"{archive}/a/..", f"file://{archive}//a/../"):
        assert sorted(gone(store, root)) == all_three, root
    assert sorted(gone(store, f"file://{archive}/d%E9")) == all_three[1:]


def test_a_file_that_no_pattern_takes_any_more_is_not_gone(store: MemoryStore, archive: Path):
    config = IndexConfig(archive=(str(archive),), patterns=("one.*",), memory=store.config)
    assert find_vanished(store, config) == []


def test_an_empty_place_may_be_a_disk_that_is_not_mounted(store: MemoryStore, archive: Path):
    (archive / "b/three.mp4").unlink()
    with pytest.raises(SourceError, match="holds no video, and the memory has 1 of it"):
        gone(store, archive / "b")
    assert gone(store, archive / "b", even_empty=True) == ["three.mp4"]
    with pytest.raises(SourceError, match="does not exist"):
        gone(store, archive / "c")


@contextmanager
def ordinary_user() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_nothing_is_gone_from_a_folder_that_cannot_be_listed(archive: Path, store: MemoryStore):
    rows = store.videos()
    (archive / "a/one.mp4").unlink()
    (archive / "b").chmod(0)

    class Known:  # the memory itself lies where only this user may read
        def videos(self, columns: list[str]) -> pa.Table:
            return rows.select(columns)

    config = IndexConfig(archive=(str(archive),), patterns=("*.mp4",))
    with ordinary_user(), pytest.raises(SourceError, match="cannot be listed"):
        find_vanished(Known(), config)
    (archive / "b").chmod(0o755)


def test_the_command_shows_asks_and_removes(store: MemoryStore, archive: Path) -> None:
    (archive / "a/one.mp4").unlink()
    command = ["prune", str(archive), "-m", store.config.uri]
    shown = runner.invoke(app, [*command, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "Gone from the archive: 1 video with 1 event:" in shown.output
    assert str(archive / "a/one.mp4") in shown.output
    asked = runner.invoke(app, command)
    assert asked.exit_code == 2
    assert "no terminal to ask" in asked.output
    assert len(store.videos()) == 3
    done = runner.invoke(app, [*command, "--yes"])
    assert done.exit_code == 0, done.output
    store.refresh()
    assert [Path(u).name for u in store.videos()["uri"].to_pylist()] == ["two.mp4", "three.mp4"]
    assert store.tables.events.count_rows() == 2
    again = runner.invoke(app, [*command, "--yes"])
    assert "Nothing is gone" in again.output


def test_a_renamed_file_keeps_its_events(store: MemoryStore, archive: Path) -> None:
    (old,) = [s for s in listed(archive) if "one" in s.uri]
    (archive / "a/one.mp4").rename(archive / "b/moved.mp4")
    (new,) = [s for s in listed(archive) if "moved" in s.uri]
    moves = find_moved(store, [new], NOW, {})
    assert moves == {old.video_id: new}
    assert store.rename_videos(moves) == [new.video_id]
    row = store.get_video(str(archive / "b/moved.mp4"))
    assert row is not None
    assert (row["num_events"], row["folder"]) == (1, str(archive / "b"))
    assert len(store.events_of(new.video_id)) == 1
    assert store.get_video(str(archive / "a/one.mp4")) is None


def test_a_copy_is_a_video_of_its_own(store: MemoryStore, archive: Path) -> None:
    (archive / "copy.mp4").write_bytes((archive / "a/one.mp4").read_bytes())
    new = [s for s in listed(archive) if "copy" in s.uri]
    assert find_moved(store, new, NOW, {}) == {}


def test_another_content_of_the_same_size_is_not_a_move(store: MemoryStore, archive: Path):
    size = (archive / "a/one.mp4").stat().st_size
    (archive / "a/one.mp4").unlink()
    (archive / "new.mp4").write_bytes(b"x" * size)
    new = [s for s in listed(archive) if "new" in s.uri]
    assert find_moved(store, new, NOW, {}) == {}


def test_what_must_be_decoded_anyway_is_not_kept(store: MemoryStore, archive: Path) -> None:
    (archive / "a/one.mp4").rename(archive / "moved.mp4")
    new = [s for s in listed(archive) if "moved" in s.uri]
    other = Fingerprints(cuts="other", embeddings="e", features=None)
    assert find_moved(store, new, other, {}) == {}


def test_all_streams_of_a_renamed_file_keep_their_events(store: MemoryStore, archive: Path) -> None:
    (first,) = [s for s in listed(archive) if "a/one" in s.uri]
    publish(store, stream_source(first, 1))
    publish(store, stream_source(first, 2), Fingerprints(cuts="x", embeddings="e", features=None))
    assert find_moved(store, listed(archive), NOW, {}) == {}
    (archive / "a/one.mp4").rename(archive / "b/moved.mp4")
    (new,) = [s for s in listed(archive) if "moved" in s.uri]
    moves = find_moved(store, [new], NOW, {})
    assert moves == {first.video_id: new, stream_source(first, 1).video_id: stream_source(new, 1)}
    assert len(store.rename_videos(moves)) == 2
    row = store.get_video(f"{new.uri}#1")
    assert row is not None
    assert len(store.events_of(row["video_id"])) == 1
    assert store.get_video(f"{first.uri}#1") is None
    assert store.get_video(f"{first.uri}#2") is not None  # of another cut: decoded anew


def test_two_gone_copies_move_one_by_one(store: MemoryStore, archive: Path) -> None:
    (archive / "a/copy.mp4").write_bytes((archive / "a/one.mp4").read_bytes())
    both = [s for s in listed(archive) if "copy" in s.uri or "a/one" in s.uri]
    publish(store, next(s for s in both if "copy" in s.uri))
    for source in both:
        publish(store, stream_source(source, 1))
        Path(source.uri).rename(archive / "b" / f"new-{Path(source.uri).name}")
    new = [s for s in listed(archive) if "new-" in s.uri]
    moves = find_moved(store, new, NOW, {})
    assert len(moves) == 4
    taken = {}
    for source in both:
        target = moves[source.video_id]
        assert moves[stream_source(source, 1).video_id] == stream_source(target, 1)
        taken[target.uri] = source.uri
    assert sorted(taken) == sorted(s.uri for s in new)


def test_files_that_were_listed_are_not_looked_for_and_others_once(
    store: MemoryStore, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorders write files of one size: new times known ones would be very many looks."""
    size = (archive / "a/one.mp4").stat().st_size
    for number in range(20):
        (archive / f"new{number}.mp4").write_bytes(bytes([number]) * size)
    (archive / "a/one.mp4").rename(archive / "moved.mp4")
    looked: list[str] = []

    def counted(uri: str, options: dict[str, str]) -> bool:
        looked.append(Path(uri).name)
        return not os.path.exists(uri)

    monkeypatch.setattr(vanished, "is_gone", counted)
    known = store.videos()["video_id"].to_pylist()
    found = {s.video_id: s for s in listed(archive)}
    absent = pa.array([i for i in known if i not in found])
    new = [s for i, s in found.items() if i not in known]
    moves = find_moved(store, new, NOW, {}, absent=absent)
    assert [source.uri for source in moves.values()] == [str(archive / "moved.mp4")]
    assert looked == ["one.mp4"]
