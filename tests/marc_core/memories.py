"""Small real memories for tests: videos of the synthetic world, indexed without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marc_core.config import EventConfig, IndexConfig, config_to_yaml, load_config
from marc_core.embed import load_encoder
from marc_core.indexing import decode_video, encode_video
from marc_core.memory import MemoryStore
from marc_core.models.vision_tower import VisionTower
from marc_core.text import read_sidecar
from marc_core.video import IsolatedDecoder, list_videos
from marc_core.world import WorldConfig, sample_video, write_mp4

ODD_NAME = "[bold red]door[blink]<b>.mp4"
CAPTION = "[/i][music] 100% 1 < 2 &"
"""A file name and a caption that terminals and browsers must show as they are."""

NO_TEXT = ("text.speech=off", "text.writing=off")
"""What is uploaded to such a memory does not say that it is synthetic: stages are off."""

CHANGE, DARK = 12.0, 10.0
"""Mean difference of a cut, and mean value of a black frame, of 255."""

FIVE_SCENES = WorldConfig(
    min_scenes=5, max_scenes=5, scene_lengths_s=(2.2, 2.6), cut_weight=1.0, dissolve_weight=0.0,
    slow_weight=0.0,
)  # fmt: skip


class PictureChange:
    """A shot detector for tests whose subject begins behind the cuts: a frame that differs much
    from the one before is a transition. Like TransNetV2 on clean cuts, at a hundredth of its time.
    """

    def __init__(self, config: EventConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        self._frames: list[np.ndarray] = []

    def push(self, frames_FHWC: np.ndarray) -> None:
        self._frames.append(frames_FHWC)

    def finish_with_dark(self) -> tuple[np.ndarray, np.ndarray]:
        frames = np.concatenate(self._frames).astype(np.float32)
        change_F = np.abs(np.diff(frames, axis=0, prepend=frames[:1])).mean((1, 2, 3))
        return (change_F > CHANGE).astype(np.float32), frames.mean((1, 2, 3)) < DARK


def world_archive(folder: Path, seeds: Sequence[int], world: WorldConfig = FIVE_SCENES) -> None:
    """Write video1.mp4, video2.mp4, ... of these seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        write_mp4(sample_video(seed, world), folder / f"video{seed}.mp4")


def index_videos(archive: Path, memory: Path, *settings: str) -> MemoryStore:
    """Index an archive with the tiny preset, in this process; return the open memory."""
    config = load_config(
        IndexConfig,
        preset="tiny",
        overrides=[f"memory.uri='{memory}'", "events.change_points=false", *NO_TEXT, *settings],
    )
    encoder, tower = load_encoder(config.encoder), VisionTower(config.student)
    store = MemoryStore.open(
        config.memory, embedding_dim=encoder.dim, encoder_fingerprint=encoder.fingerprint,
        create=True,
    )  # fmt: skip
    store.record_run(config_to_yaml(config))
    detector = PictureChange(config.events)
    with IsolatedDecoder(config.video) as decoder:
        for source in list_videos([str(archive)], config.patterns, {}):
            rows = encode_video(
                source, decode_video(source.uri, decoder, detector), read_sidecar(source, {}),
                config=config, encoder=encoder, tower=tower,
            )  # fmt: skip
            store.publish(rows.videos, rows.events, rows.features, rows.texts)
    return store
