"""A memory of many short videos of the synthetic world, made without decoding.

    seeds --draw_archive--> videos --decoded--> encode_video --> LanceDB memory

Rows are made by `marc_core.indexing.encode_video` from rendered frames and true boundaries:
decoding and shot detection are left out, which would take most of the time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marc_core.world import WorldConfig, WorldVideo, render_frames, sample_video
from marc_core.world.naming import shows

if TYPE_CHECKING:
    from marc_core.config import IndexConfig
    from marc_core.indexing import DecodedVideo
    from marc_core.memory import MemoryStore
    from marc_core.types import VideoSource

WORLD = WorldConfig(salt=7000, min_scenes=2, max_scenes=4)
FOLDERS, ONE_IN = 10, 25
FRAMES_PER_S = 10
PUBLISHED = 25
"""Videos that are published together."""


def draw_archive(num_videos: int) -> list[WorldVideo]:
    """Return the videos: at every place that `ONE_IN` divides one whose first scene shows an object
    at a place that no other video has."""
    special = range(0, num_videos, ONE_IN)
    seeds, taken, reserved = iter(range(10**6)), list[WorldVideo](), set[tuple[str, str, str]]()
    while len(taken) < len(special):
        video = sample_video(next(seeds), WORLD)
        thing = video.events[0].objects[0]
        if not any(_shows(video, look) for look in reserved):
            look = (video.events[0].background, thing.colour, thing.shape)
            if not any(_shows(other, look) for other in taken):
                reserved.add(look)
                taken.append(video)
    drawn = (sample_video(seed, WORLD) for seed in seeds)
    others = (v for v in drawn if not any(_shows(v, look) for look in reserved))
    named = iter(taken)
    return [next(named) if i in special else next(others) for i in range(num_videos)]


def _shows(video: WorldVideo, look: tuple[str, str, str]) -> bool:
    place, colour, shape = look
    return any(e.background == place and shows(e, colour=colour, shape=shape) for e in video.events)


def folder_of(index: int) -> str:
    """Return the folder of the video at a place in the archive."""
    return f"/archive/{index % FOLDERS}"


def source_of(index: int, video: WorldVideo) -> VideoSource:
    """Return a video as a listing names it."""
    from marc_core.schemas import make_video_id
    from marc_core.types import VideoSource

    uri = f"{folder_of(index)}/{video.name}.mp4"
    return VideoSource(video_id=make_video_id(uri, 1, "1"), uri=uri, size_bytes=1, version="1")


def fill(memory: Path, videos: Sequence[WorldVideo]) -> None:
    """Publish the videos that the memory lacks."""
    from marc_core.config import IndexConfig, config_to_yaml, load_config
    from marc_core.embed import load_encoder
    from marc_core.memory import MemoryStore
    from marc_core.models.vision_tower import VisionTower

    overrides = [f"memory.uri='{memory}'", "events.change_points=false"]
    config = load_config(IndexConfig, preset="tiny", overrides=overrides)
    encoder = load_encoder(config.encoder)
    store = MemoryStore.open(
        config.memory, embedding_dim=encoder.dim, encoder_fingerprint=encoder.fingerprint,
        create=True,
    )  # fmt: skip
    store.record_run(config_to_yaml(config))
    known = set(store.videos(columns=["uri"])["uri"].to_pylist())
    named = [(source_of(i, v), v) for i, v in enumerate(videos)]
    todo = [(source, v) for source, v in named if source.uri not in known]
    models = (encoder, VisionTower(config.student))
    for start in range(0, len(todo), PUBLISHED):
        _publish(store, todo[start : start + PUBLISHED], config, models)
        print(f"{start} of {len(todo)} videos", file=sys.stderr, flush=True)


def _publish(
    store: MemoryStore,
    part: Sequence[tuple[VideoSource, WorldVideo]],
    config: IndexConfig,
    models: tuple[Any, Any],
) -> None:
    import pyarrow as pa

    from marc_core.indexing import encode_video
    from marc_core.text import Sidecar

    encoder, tower = models
    rows = [
        encode_video(
            s, decoded(v), Sidecar(synthetic=True), config=config, encoder=encoder, tower=tower
        )
        for s, v in part
    ]
    features = [r.features for r in rows if r.features is not None]
    store.publish(
        pa.concat_tables([r.videos for r in rows]), pa.concat_tables([r.events for r in rows]),
        pa.concat_tables(features), pa.concat_tables([r.texts for r in rows]),
    )  # fmt: skip


def decoded(video: WorldVideo) -> DecodedVideo:
    """Return what a decoder and a perfect shot detector would give of a video."""
    from marc_core.indexing import DecodedVideo
    from marc_core.types import DecodeSummary, VideoInfo

    times_F = np.arange(0.0, video.duration_s - 1e-6, 1 / FRAMES_PER_S)
    scores_F = np.zeros(len(times_F), np.float32)
    scores_F[np.searchsorted(times_F, [e.start_s for e in video.events[1:]])] = 1.0
    sampled = np.arange(0, len(times_F), FRAMES_PER_S)
    frames = render_frames(video, [float(t) for t in times_F[sampled]])
    info = VideoInfo(
        codec="h264", container="mp4", width=112, height=112, rotation_deg=0,
        fps=float(FRAMES_PER_S), duration_s=video.duration_s, num_frames=len(times_F),
        has_audio=False,
    )  # fmt: skip
    summary = DecodeSummary(
        info=info, num_frames=len(times_F), num_errors=0, start_s=0.0, end_s=video.duration_s,
        backend="pyav", backend_reason="rendered", sample_fps=1.0,
    )  # fmt: skip
    return DecodedVideo(
        summary=summary, content_digest=f"{video.seed:064x}", times_s=times_F,
        shot_scores=scores_F, dark=np.zeros(len(times_F), bool), sampled_index=sampled,
        sampled_frames=frames,
    )  # fmt: skip
