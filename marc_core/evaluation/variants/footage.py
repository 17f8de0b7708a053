"""A video as an evaluation needs it: frames sampled once, events, nothing else.

    world video  -> rendered at the sampled times, cut at the true boundaries       (WorldLoader)
    video file   -> decoded and cut as by `marc index`                              (FileLoader)
    image file   -> one frame, one event                                            (FileLoader)

Rendering and decoding differ by the codec: a rendered frame is what `write_mp4` would encode at
that time, byte for byte, before H.264 loses some of it. Evaluate the files that `marc demo`
writes where that matters; the world's own benchmark needs no files and no decoder.

Letters: S sampled frames, H W pixels, D channels of an embedding.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from marc_core.errors import SourceError
from marc_core.evaluation.datasets.sample import Sample
from marc_core.schemas import make_video_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.config import MethodConfig
    from marc_core.embed import DualEncoder
    from marc_core.events import ShotDetector

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


@dataclass(frozen=True, kw_only=True)
class Footage:
    """Sampled frames and events of one video.

    video_id, uri: as `marc index` would name it. start_s: where its 0:00 is on its own clock.
    times_S: (S,) seconds. frames_SHWC: (S, H, W, 3) uint8 RGB. spans: [start_s, end_s) of every
    event. positions: for every event, indices of its sampled frames, at least one.
    embeddings_SD: (S, D) unit vectors of the frames where they were needed already.
    timings_s: {"decode": seconds, ...} of the loading.
    """

    video_id: str
    uri: str
    times_S: NDArray[np.float64]
    frames_SHWC: NDArray[np.uint8]
    spans: tuple[tuple[float, float], ...]
    positions: tuple[NDArray[np.int64], ...]
    start_s: float = 0.0
    embeddings_SD: NDArray[np.float32] | None = None
    timings_s: dict[str, float] = field(default_factory=dict)


class Loader(Protocol):
    """Turns a sample's path into Footage. Raises VideoError or SourceError with the reason."""

    def load(self, path: str) -> Footage:
        """Return the footage of the video at `path`."""
        ...

    def exists(self, path: str) -> bool:
        """Return False where there is nothing to load: a row `missing`, not a failure."""
        ...


class FileLoader:
    """Decodes files in a child process and cuts them into events, as indexing does.

    detector: in place of TransNetV2.
    """

    def __init__(
        self, config: MethodConfig, encoder: DualEncoder, *, detector: ShotDetector | None = None
    ) -> None:
        from marc_core.events import ShotDetector
        from marc_core.video import IsolatedDecoder

        self.config, self.encoder = config, encoder
        self.decoder = IsolatedDecoder(config.video)
        self.detector = ShotDetector(config.events) if detector is None else detector

    def exists(self, path: str) -> bool:
        """Return whether the file is there."""
        return Path(path).is_file()

    def load(self, path: str) -> Footage:
        """Decode, embed and segment one video; an image becomes one event of one frame."""
        if Path(path).suffix.lower() in IMAGE_SUFFIXES:
            return load_image(path)
        from marc_core.indexing import cut, decode_video
        from marc_core.video import list_videos

        started = time.perf_counter()
        (source,) = list_videos([path], (), {})
        decoded = decode_video(path, self.decoder, self.detector)
        read = time.perf_counter()
        parts = cut(decoded, self.encoder, self.config.events)
        return Footage(
            video_id=source.video_id,
            uri=source.uri,
            start_s=decoded.summary.start_s,
            times_S=decoded.times_s[decoded.sampled_index],
            frames_SHWC=decoded.sampled_frames,
            spans=tuple((e.start_s, e.end_s) for e in parts.events),
            positions=parts.positions,
            embeddings_SD=parts.embeddings_SD,
            timings_s={"decode": read - started, "embed": time.perf_counter() - read},
        )


def load_image(path: str) -> Footage:
    """Return a picture as one event of one frame at 0 s. Raises SourceError."""
    from PIL import Image, UnidentifiedImageError

    started = time.perf_counter()
    try:
        with Image.open(path) as image:
            frame = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise SourceError(f"'{path}' cannot be read as an image: {error}.") from error
    return Footage(
        video_id=make_video_id(path, 0, ""),
        uri=path,
        times_S=np.zeros(1),
        frames_SHWC=frame[None],
        spans=((0.0, 1.0),),
        positions=(np.zeros(1, dtype=np.int64),),
        timings_s={"decode": time.perf_counter() - started},
    )


def clip(footage: Footage, sample: Sample) -> Footage:
    """Return the part of the footage that the sample is about; the footage itself without one.

    Events are cut to [clip_start_s, clip_end_s); a clip between two sampled frames keeps the one
    nearest to its middle.
    """
    if sample.clip_start_s is None and sample.clip_end_s is None:
        return footage
    start_s = -np.inf if sample.clip_start_s is None else sample.clip_start_s
    end_s = np.inf if sample.clip_end_s is None else sample.clip_end_s
    inside = (footage.times_S >= start_s) & (footage.times_S < end_s)
    if not inside.any():
        middle_s = (max(start_s, footage.spans[0][0]) + min(end_s, footage.spans[-1][1])) / 2
        inside[int(np.argmin(np.abs(footage.times_S - middle_s)))] = True
    kept = [(span, p[inside[p]]) for span, p in zip(footage.spans, footage.positions, strict=True)]
    kept = [(span, p) for span, p in kept if len(p)]
    return dataclasses.replace(
        footage,
        spans=tuple((max(a, start_s), min(b, end_s)) for (a, b), _ in kept),
        positions=tuple(p for _, p in kept),
    )
