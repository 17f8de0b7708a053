"""Files of the same bytes are decoded once, whatever they are called; all else is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow.fs import LocalFileSystem

from marc_core import schemas
from marc_core.config import IndexConfig, MemoryConfig
from marc_core.digest import content_digest
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.types import VideoSource
from marc_core.video import list_videos
from marc_core.video.source import Location
from marc_core.video_rows import base_row
from pipelines import copies
from pipelines.copies import find_copies, index_once
from pipelines.plan import collect

DIM = 4
NOW = Fingerprints(cuts="c", embeddings="e", features=None)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    for name, data in (("a", b"x" * 100), ("b", b"x" * 100), ("c", b"y" * 100), ("d", b"z")):
        (folder / f"{name}.mp4").write_bytes(data)
    return folder


@pytest.fixture
def config(tmp_path: Path, archive: Path) -> IndexConfig:
    memory = MemoryConfig(uri=str(tmp_path / "memory"), refresh_s=0)
    return IndexConfig(memory=memory, archive=(str(archive),))


@pytest.fixture
def store(config: IndexConfig) -> MemoryStore:
    return MemoryStore.open(config.memory, embedding_dim=DIM, create=True)


def work_of(archive: Path) -> pa.Table:
    found = collect(list_videos([str(archive)], ["*.mp4"], {}))
    return found.append_column("attempts", pa.array([1] * len(found), pa.int32()))


def files_of(folder: Path, **letters: bytes) -> Path:
    """Make a folder of files of 100 equal bytes each."""
    folder.mkdir()
    for name, letter in letters.items():
        (folder / f"{name}.mp4").write_bytes(letter * 100)
    return folder


class Decoder:
    """Publishes what it is given, but for names that it cannot read; remembers them."""

    def __init__(self, store: MemoryStore, *bad: str) -> None:
        self.store, self.bad, self.seen = store, bad, []

    def __call__(self, work: pa.Table) -> None:
        for text in work["source"].to_pylist():
            source = VideoSource.from_json(text)
            self.seen.append(Path(source.uri).stem)
            if self.seen[-1] not in self.bad:
                self.publish(source)

    def publish(self, source: VideoSource) -> None:
        video = base_row(source, 1, NOW) | {
            "status": "indexed", "num_events": 1, "num_parts": 1, "duration_s": 5.0,
            "content_digest": content_digest(source.uri),
        }  # fmt: skip
        event = {
            "event_id": schemas.make_event_id(source.video_id, 0, 0), "part": 0, "index": 0,
            "video_id": source.video_id, "start_s": 0.0, "end_s": 5.0, "video_start_s": 0.0,
            "folder": str(Path(source.uri).parent), "embedding": np.ones(DIM, np.float32),
        }  # fmt: skip
        self.store.publish(
            pa.Table.from_pylist([video], schema=schemas.VIDEOS),
            pa.Table.from_pylist([event], schema=schemas.events_schema(DIM)),
        )


def run(archive: Path, config: IndexConfig, decoder: Decoder) -> tuple[int, list[str]]:
    """Return (videos copied, names in the memory)."""
    copied = index_once(
        work_of(archive), decoder, store=decoder.store, fingerprints=NOW, config=config,
        count=lambda videos, failed: None,
    )  # fmt: skip
    uris = decoder.store.videos(columns=["uri"])["uri"].to_pylist()
    return copied, [Path(uri).stem for uri in uris]


def test_new_files_of_the_same_bytes_are_decoded_once(
    archive: Path, config: IndexConfig, store: MemoryStore
) -> None:
    decoder = Decoder(store)
    assert run(archive, config, decoder) == (1, ["a", "b", "c", "d"])
    assert decoder.seen == ["a", "c", "d"]
    assert store.tables.events.count_rows() == 4


def test_empty_files_do_not_wait_for_one_another(
    tmp_path: Path, config: IndexConfig, store: MemoryStore
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.mp4").touch()
    work, copies = find_copies(store, work_of(folder), NOW, config)
    assert (len(work), copies) == (3, {})


def test_a_new_copy_of_an_indexed_file_is_not_decoded(
    archive: Path, config: IndexConfig, store: MemoryStore
) -> None:
    Decoder(store)(work_of(archive))
    new = files_of(archive.parent / "new", e=b"y", f=b"w")
    decoder = Decoder(store)
    assert run(new, config, decoder)[0] == 1
    assert decoder.seen == ["f"]


def test_a_copy_of_what_cannot_be_decoded_is_tried_itself(
    archive: Path, config: IndexConfig, store: MemoryStore
) -> None:
    decoder = Decoder(store, "a")
    assert run(archive, config, decoder) == (0, ["b", "c", "d"])
    assert decoder.seen == ["a", "c", "d", "b"]


def test_what_an_original_no_longer_is_is_not_copied(
    archive: Path, config: IndexConfig, store: MemoryStore
) -> None:
    """The memory's digest is of a file that was overwritten since."""
    Decoder(store)(work_of(archive))
    new = files_of(archive.parent / "new", e=b"y")
    (archive / "c.mp4").write_bytes(b"Y" * 100)
    decoder = Decoder(store)
    assert run(new, config, decoder)[0] == 0
    assert decoder.seen == ["e"]


def test_other_settings_and_unreadable_files_are_no_reason_to_copy(
    archive: Path, config: IndexConfig, store: MemoryStore
) -> None:
    Decoder(store)(work_of(archive))
    work = work_of(archive).filter(pa.array([True, False, False, True]))
    other = Fingerprints(cuts="c2", embeddings="e", features=None)
    assert find_copies(store, work, other, config).copies == {}
    (archive / "d.mp4").unlink()
    assert find_copies(store, work.slice(1), NOW, config).copies == {}


def test_clips_of_an_object_store_are_not_fetched_to_be_compared(
    archive: Path, config: IndexConfig, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million clips would be fetched before the first one is decoded."""
    opened: list[str] = []

    class Store(LocalFileSystem):
        def open_input_file(self, path: str) -> object:
            opened.append(Path(path).name)
            return super().open_input_file(path)

    def located(uri: str, options: object) -> Location:
        return Location(scheme="s3", path=uri, store=Store())

    monkeypatch.setattr(copies, "locate", located)
    assert find_copies(store, work_of(archive), NOW, config).copies == {}
    assert opened == []
    monkeypatch.setattr(copies, "FETCHED_FROM_BYTES", 50)
    (copy,) = find_copies(store, work_of(archive), NOW, config).copies
    assert Path(copy.uri).name == "b.mp4"
    assert sorted(opened) == ["a.mp4", "b.mp4", "c.mp4"]
