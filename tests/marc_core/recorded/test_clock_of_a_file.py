"""From a container's metadata to the wall clock of events, and new settings without a decode."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from marc_core.archive import SearchHit
from marc_core.config import ClockConfig, IndexConfig, MemoryConfig, VideoConfig
from marc_core.display import Results, wall_clock
from marc_core.evidence import Citation
from marc_core.indexing import decode_video, encode_video
from marc_core.memory import MemoryStore
from marc_core.memory.archive import MemoryArchive
from marc_core.question import EventFilter
from marc_core.recorded.sources import TAG_ANDROID, TAG_CREATION, TAG_QUICKTIME
from marc_core.refresh import refresh_texts
from marc_core.text import read_sidecar
from marc_core.types import VideoSource
from marc_core.video import IsolatedDecoder, list_videos
from marc_core.video.pyav import open_video
from pipelines.kept import stale_texts
from pipelines.plan import collect
from tests.marc_core.memories import PictureChange

CREATED = "2026-03-01T10:00:00.000000Z"
APPLE = "2026-02-01T10:00:00+0100"


def with_tags(source: Path, path: Path, **tags: str) -> Path:
    """Write the video once more with metadata of the container."""
    options = {"movflags": "use_metadata_tags"} if path.suffix in (".mov", ".mp4") else {}
    with av.open(str(source)) as old, av.open(str(path), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        new.metadata.update(tags)
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, clip_writer: Callable[..., Path]) -> Path:
    return clip_writer(tmp_path_factory.mktemp("clock") / "clip.mp4")


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_what_containers_say(clip: Path, tmp_path: Path, ending: str) -> None:
    tags = {TAG_CREATION: CREATED, TAG_QUICKTIME: APPLE, TAG_ANDROID: "14", "title": "x"}
    path = with_tags(clip, tmp_path / f"a.{ending}", **tags)
    with open_video(path, VideoConfig()) as video:
        found = dict(video.info.clock_tags)
    assert found == {name: tags[name] for name in found}
    assert TAG_CREATION in found
    assert ending == "mkv" or len(found) == 3


class Colours:
    """An encoder whose vectors are mean colours."""

    fingerprint, dim = "colours", 3

    def encode_images(self, frames_FHWC: np.ndarray) -> np.ndarray:
        colours = frames_FHWC.mean((1, 2)) + 1
        return (colours / np.linalg.norm(colours, axis=1, keepdims=True)).astype(np.float32)


def listed(folder: Path) -> VideoSource:
    (source,) = list_videos([str(folder)], ["*.mp4"], {})
    return source


def published(folder: Path, config: IndexConfig) -> MemoryStore:
    store = MemoryStore.open(config.memory, embedding_dim=3, create=True)
    source = listed(folder)
    with IsolatedDecoder(config.video) as decoder:
        decoded = decode_video(source.uri, decoder, PictureChange(config.events))
    sidecar = read_sidecar(source, {}, config.clock.zone)
    rows = encode_video(source, decoded, sidecar, config=config, encoder=Colours(), tower=None)
    store.publish(rows.videos, rows.events, rows.features, rows.texts)
    return store


def row_of(store: MemoryStore) -> dict:
    (row,) = store.videos().to_pylist()
    return row


def test_the_clock_of_a_file_and_new_settings_without_a_decode(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    path = with_tags(clip, folder / "cam_20260401-100000.mp4", **{TAG_CREATION: CREATED})
    config = IndexConfig(memory=MemoryConfig(uri=str(tmp_path / "memory")))
    store = published(folder, config)
    created = dt.datetime.fromisoformat(CREATED)
    row = row_of(store)
    assert (row["recorded_at"], row["recorded_source"]) == (created, "creation_time")
    first, second = MemoryArchive(store, config).events(EventFilter(), limit=9)
    assert (first.recorded_from, second.recorded_from) == (
        created,
        created + dt.timedelta(seconds=second.start_s),
    )

    found = collect(list_videos([str(folder)], ["*.mp4"], {}))
    assert not stale_texts(found, store.video_states(), config).num_rows
    named = ClockConfig(container="ignore", zone="Europe/Berlin", file_names=("cam_%Y%m%d-%H%M%S",))
    new = replace(config, clock=named)
    assert stale_texts(found, store.video_states(), new).num_rows == 1
    assert refresh_texts(store, [listed(folder)], {}, named) == 1
    row = row_of(store)
    assert row["recorded_at"].isoformat() == "2026-04-01T08:00:00+00:00"
    assert row["recorded_source"] == "file_name"
    assert not stale_texts(found, store.video_states(), new).num_rows

    beside = path.with_suffix(".json")
    beside.write_text('{"recorded_at": "2026-05-01T12:00"}')
    refresh_texts(store, [listed(folder)], {}, named)
    assert row_of(store)["recorded_at"].isoformat() == "2026-05-01T10:00:00+00:00"
    assert row_of(store)["recorded_source"] == "sidecar"
    beside.unlink()
    os.rename(path, folder / "cam_20260230-100000.mp4")
    renamed = listed(folder)
    store.rename_videos({row["video_id"]: renamed})
    refresh_texts(store, [renamed], {}, replace(named, container="auto"))
    assert row_of(store)["recorded_source"] == "creation_time"  # its tags have moved with it
    refresh_texts(store, [renamed], {}, named)
    row = row_of(store)
    assert (row["recorded_at"], row["recorded_source"]) == (None, None)
    (warning,) = row["warnings"]
    assert warning.startswith("clock: file_name 'cam_20260230-100000.mp4' does not count")


def hit(recorded_from: dt.datetime | None) -> SearchHit:
    return SearchHit(
        event_id="v:0000:00000", video_id="v", part=0, index=0, uri="/a.mp4", start_s=0.0,
        end_s=1.0, recorded_from=recorded_from,
    )  # fmt: skip


def test_results_and_citations_show_the_wall_clock_in_the_configured_zone() -> None:
    noon = dt.datetime(2026, 7, 1, 10, tzinfo=dt.UTC)
    assert wall_clock(hit(noon)) == "2026-07-01 10:00:00+00:00"
    assert wall_clock(hit(noon), "Europe/Berlin") == "2026-07-01 12:00:00+02:00"
    cited = Citation(
        event_id="e", video_id="v", uri="/a.mp4", start_s=0.0, end_s=1.0,
        recorded_from=noon.isoformat(),
    )  # fmt: skip
    assert wall_clock(cited, "+05:30") == "2026-07-01 15:30:00+05:30"
    shown = Results([hit(noon), hit(None)], lambda ids: {}, zone="Europe/Berlin")
    assert repr(shown).count("2026-07-01 12:00:00+02:00") == 1
    assert "<th" in shown._repr_html_()
    assert ">recorded<" in shown._repr_html_()
    without = Results([hit(None)], lambda ids: {})
    assert ">recorded<" not in without._repr_html_()
