"""Values that pass between MARC's parts: plain, frozen, without behaviour.

Shape letters: F frames, T temporal groups (two frames each), P tokens of a group, D channels.
Times are seconds on the source's own clock (presentation timestamps), never index / fps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from marc_core.filenames import stream_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

BoundaryKind = Literal["start", "gap", "shot", "semantic", "max_length", "part"]
"""Why an event begins: start of the video, end of a gap in its clock, TransNetV2 transition,
change point, length limit, start of a part inside a shot."""


class SidecarFile(NamedTuple):
    """A file beside a video that says something of it; `version` is its time of change."""

    uri: str
    size_bytes: int
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSource:
    """One video of an archive, before it is opened: a file, or one video stream of it.

    `stream` counts the file's video streams, the one that players show first; `uri` ends in
    `#<stream>` for all but that one. `version` is the time of change in nanoseconds, in object
    stores, too; it is part of `video_id`, so that a changed file is a new video.
    `sidecars` are the files beside it, which are no part of its id.
    """

    video_id: str
    uri: str
    size_bytes: int
    version: str
    sidecars: tuple[SidecarFile, ...] = ()
    stream: int = 0

    @property
    def file_uri(self) -> str:
        """Address of the file itself."""
        return self.uri.removesuffix(f"#{self.stream}") if self.stream else self.uri

    def to_json(self) -> str:
        """Return JSON for `from_json`."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> VideoSource:
        """Return the source of a row of `videos`, without the files beside it."""
        names = ("video_id", "uri", "size_bytes", "version")
        return cls(**{name: row[name] for name in names}, stream=stream_of(row["uri"]))

    @classmethod
    def from_json(cls, text: str) -> VideoSource:
        """Return the source that `to_json` wrote."""
        values = json.loads(text)
        sidecars = tuple(SidecarFile(*file) for file in values.pop("sidecars"))
        return cls(**values, sidecars=sidecars)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """What the container says of its video stream. `width`, `height` are after rotation.

    `rotation_deg`: how far a player turns the picture clockwise, after mirroring it left to right
    where it is `mirrored` (a vertical mirror is a mirror and a half turn).
    `num_frames` and `duration_s` are the container's promise and None where it makes none.
    `num_streams`: video streams of the file, cover pictures not counted. `clock_tags`: what the
    container says of its wall clock, as it says it (`marc_core.recorded.sources.TAGS`).
    `synthetic`: whether the file says, by `SYNTHETIC_COMMENT`, that it is rendered.
    """

    codec: str
    container: str
    width: int
    height: int
    rotation_deg: int
    fps: float | None
    duration_s: float | None
    num_frames: int | None
    has_audio: bool
    mirrored: bool = False
    num_streams: int = 1
    clock_tags: Mapping[str, str] = field(default_factory=dict)
    synthetic: bool = False


SYNTHETIC_COMMENT = "synthetic video, rendered by MARC"
"""The comment in a file's metadata by which it says that it is rendered, not filmed."""

SOUND_RATE = 16_000
"""Samples of sound a second (what voice activity and speech models read)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundBlock:
    """A run of sound. samples: (N,) float32 in [-1, 1], one channel, SOUND_RATE a second.

    start_s: time of its first sample on the video's clock. joins: whether it goes on exactly where
    the block before ended; else sound is missing between them, or they overlap.
    """

    start_s: float
    samples: NDArray[np.float32]
    joins: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameChunk:
    """A run of consecutive decoded frames.

    times_s: (F,) float64, strictly increasing over the whole video.
    shot_frames: (F, 27, 48, 3) uint8 RGB, the shot detector's input.
    sampled_index: (S,) int64, positions in `times_s` of THIS chunk.
    sampled_frames: (S, H, W, 3) uint8 RGB, upright, aspect ratio kept, at most
        `VideoConfig.frame_max_pixels`.
    sample_interval_s: distance of samples by the end of this chunk. Where it grows, samples of
        earlier chunks between the wider instants are given up (`SampleBuffer` does).
    gaps: those of `DecodeSummary.gaps` that end at one of these frames.
    num_errors: packets that the decoder has rejected by now.
    """

    times_s: NDArray[np.float64]
    shot_frames: NDArray[np.uint8]
    sampled_index: NDArray[np.int64]
    sampled_frames: NDArray[np.uint8]
    sample_interval_s: float
    gaps: tuple[tuple[float, float], ...] = ()
    num_errors: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeSummary:
    """What is known of a video after its last frame.

    `num_errors` counts packets that the decoder rejected and that were skipped. `gaps` are
    stretches [end of a frame, next frame) without pictures, in seconds on the source's clock: no
    event spans one. `warnings`: what a person should know although the video was decoded, one
    sentence each.
    """

    info: VideoInfo
    num_frames: int
    num_errors: int
    start_s: float
    end_s: float
    backend: Literal["pyav", "decord"]
    backend_reason: str
    sample_fps: float
    gaps: tuple[tuple[float, float], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A stretch [start_s, end_s) of a video; a video's events tile it without overlap, and
    without a gap but for those in the source's clock (`DecodeSummary.gaps`).

    first_frame, end_frame: half-open range of frame indices of the source.
    score: strength of the boundary that begins it, in [0, 1]; 1.0 for kind "start".
    """

    index: int
    start_s: float
    end_s: float
    first_frame: int
    end_frame: int
    kind: BoundaryKind
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The frames [first, end) of those that were decoded which are a part's own.

    kind, score: of the boundary at `first`.
    """

    first: int
    end: int
    kind: BoundaryKind
    score: float


@dataclass(frozen=True, slots=True)
class EventFeatures:
    """Student features of one event, stage-1 merged or not.

    groups_TPD: (T, P, D), frame-major, merged rows of the vision tower's pooler output.
    grid_hw: (h, w) tokens of a group after the spatial merge, h * w = P.
    times_T: (T,) float32, centre of each group in seconds on the source's clock.
    deepstack_LTPD: (L, T, P, D) for models that need it (Qwen3-VL), else None.
    num_source_groups: groups before stage 1.
    counts_T: (T,) float32, source groups behind each group (weighted merging); None means an
        equal share of `num_source_groups`.
    """

    groups_TPD: torch.Tensor
    grid_hw: tuple[int, int]
    times_T: torch.Tensor
    num_source_groups: int
    deepstack_LTPD: torch.Tensor | None = None
    counts_T: torch.Tensor | None = None
