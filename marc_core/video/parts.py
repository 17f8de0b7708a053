"""A long file as parts that can be decoded each by itself, exactly as one pass would.

    packets (nothing is decoded) --doubt--> parts in order (marc_core.video.layout)
         |
         +--seams: keyframes near every `part_s`--> Part, Part, ...

    Part:   begin_s ...... | ZONE_S | from_s ......... to_s | ZONE_S | ...... stop_s
            context of       seen by         its own          seen by    context of
            the detector     both parts      frames           both       the detector

Every frame is of exactly one part. Both parts at a seam decode the zone around it, so both find
the same shot boundary there, and both digest it: where the digests differ, one of them was decoded
wrongly. A seam's frame is looked for by its stamp; if the first frame that a decoder gives after a
seek is later, the seek goes further back, in the end to the beginning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from marc_core.types import VideoInfo
from marc_core.video.clock import GAP_S
from marc_core.video.pyav import demuxed, open_container, video_stream
from marc_core.video.wrap import NEAR_S, wrap_after_s

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from marc_core.video.pyav import OpenVideo

ZONE_S = 3.0
"""Seconds on either side of a seam that both its parts look at (our choice: boundaries within one
second are wanted, and a transition of two seconds around them is seen whole)."""
ALIGN = 100
"""A part's first frame is a multiple of this: detector windows and chunks lie as in one pass."""
BEFORE, AFTER = 75, 125
"""Frames of context of a detector's window of 50: what its scores depend on (docs/footage.md)."""
WINDOW = 50
MOST_REORDERED = 16
"""Places that a packet's picture may lie from its own (our choice: as deep as H.264 and HEVC
decoders reorder); more is damage."""
_SPARSE = frozenset({"mpeg"})
"""Containers that stamp pictures now and then: between, stamps depend on where reading began (a
frame was lost behind one seek in four)."""
SLACK_S = 1e-4
"""Rounding allowed when a stamp is compared with a frame's time."""
_BACK_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""How far before a part's first frame seeks go, one after another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Frames [from_s, to_s) of a video, and what is decoded around them; None: up to its end.

    video_start_s: time of the video's first frame. begin_s: first frame that is decoded; stop_s:
    first one that is not decoded any more. in_order: the file cannot be sought, so all of it before
    the part is decoded first; the part begins with the first frame from `from_s` on, and what is
    decoded around it is found on the way (marc_core.in_order).
    """

    number: int
    video_start_s: float
    begin_s: float | None
    from_s: float | None
    to_s: float | None
    stop_s: float | None
    in_order: bool = False

    @property
    def seen_s(self) -> tuple[float, float]:
        """Times [from, to) of its frames and of the zones around them."""
        low_s = -np.inf if self.from_s is None else self.from_s - ZONE_S
        return low_s, np.inf if self.to_s is None else self.to_s + ZONE_S

    def to_json(self) -> str:
        """Return JSON for `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Return the part that `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A long recording as parts. end_s: when its last frame ends, as its stamps promise. doubt: why
    it is decoded in order, None where its parts are sought."""

    info: VideoInfo
    end_s: float
    parts: tuple[Part, ...]
    warnings: tuple[str, ...] = ()
    doubt: str | None = None

    def to_json(self) -> str:
        """Return JSON for `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Layout:
        """Return the layout that `to_json` wrote."""
        values = json.loads(text)
        return cls(
            info=VideoInfo(**values["info"]),
            end_s=values["end_s"],
            parts=tuple(Part(**part) for part in values["parts"]),
            warnings=tuple(values["warnings"]),
            doubt=values["doubt"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Packets:
    """Stamps of a stream's packets that become pictures, in the order of the file.

    times_s: (N,) float64, NaN where a packet has none. decode_ticks: (N,) their decoding stamps,
    NaN where unknown. is_key: (N,). wrap_s: where their counter ends, None: nowhere. container:
    name of FFmpeg's demuxer. reorder_depth: how many pictures the decoder holds to put them into
    order. is_broken: not all of the file could be read.
    """

    times_s: NDArray[np.float64]
    decode_ticks: NDArray[np.float64]
    is_key: NDArray[np.bool_]
    wrap_s: float | None = None
    container: str = ""
    reorder_depth: int = 0
    is_broken: bool = False

    @property
    def wraps(self) -> bool:
        """Whether any stamp lies near the end of its counter."""
        most_s = np.nanmax(self.times_s, initial=-np.inf)
        return self.wrap_s is not None and bool(most_s > self.wrap_s - NEAR_S)


def read_packets(
    path: str | Path, *, stream: int = 0, on_packet: Callable[[], None] | None = None
) -> Packets:
    """Return the packets of a video stream; nothing is decoded. Raises UnreadableVideoError."""
    name = str(path)
    times: list[float] = []
    ticks: list[float] = []
    keys: list[bool] = []
    with open_container(name) as container:
        pictures = video_stream(name, container, stream)
        tick, name_of_format = pictures.time_base, container.format.name
        failures: list[av.FFmpegError] = []
        for packet in demuxed(container, pictures, failures.append):
            if on_packet is not None:
                on_packet()
            if packet.size and not packet.is_discard:
                known = packet.pts is not None and packet.time_base is not None
                times.append(float(packet.pts * packet.time_base) if known else np.nan)  # type: ignore[operator]
                ticks.append(np.nan if packet.dts is None else float(packet.dts))
                keys.append(packet.is_keyframe)
        depth = pictures.codec_context.reorder_depth
    return Packets(
        times_s=np.array(times, np.float64),
        decode_ticks=np.array(ticks, np.float64),
        is_key=np.array(keys, np.bool_),
        container=name_of_format,
        wrap_s=wrap_after_s(name_of_format, None if tick is None else float(tick)),
        reorder_depth=depth,
        is_broken=bool(failures),
    )


def doubt(packets: Packets) -> str | None:
    """Return why a file cannot be sought reliably, None where it can."""
    times_s = packets.times_s
    if not len(times_s):
        return "it has no packets"
    if packets.is_broken:
        return "it is damaged"
    if np.isnan(times_s).any():
        return "it has packets without a time stamp"
    if packets.container in _SPARSE:
        return "its container stamps a picture now and then only"
    if packets.wraps:
        return "its stamps come near the end of their counter"
    ordered = np.sort(times_s)
    if (np.diff(ordered) <= 0).any():
        return "time stamps occur twice"
    known = packets.decode_ticks[~np.isnan(packets.decode_ticks)]
    if (np.diff(known) < 0).any():
        return "decoding stamps go back"
    places = np.searchsorted(ordered, times_s) - np.arange(len(times_s))
    if np.abs(places).max() > MOST_REORDERED:
        return f"pictures lie more than {MOST_REORDERED} places from their packets"
    return None


def seams(packets: Packets, part_s: float) -> NDArray[np.float64]:
    """Return the times at which parts begin, without the first: keyframes about `part_s` apart.

    Parts are of about equal length; what is not shown because the clock jumps does not count.
    Empty where the file is no longer than one part, or has fewer keyframes than parts.
    """
    ordered = np.sort(packets.times_s)
    shown_s = np.concatenate([[0.0], np.cumsum(np.minimum(np.diff(ordered), GAP_S))])
    count = int(np.ceil(shown_s[-1] / part_s - 1e-9)) if len(ordered) else 0
    keys = np.searchsorted(ordered, np.sort(packets.times_s[packets.is_key]))
    if count < 2 or len(keys) < count:
        return np.zeros(0)
    wanted = shown_s[-1] * np.arange(1, count) / count
    nearest = [int(keys[np.abs(shown_s[keys] - at).argmin()]) for at in wanted]
    return ordered[[frame for frame in sorted(set(nearest)) if frame]]


def parts_of(
    times_s: NDArray[np.float64], seams_s: NDArray[np.float64], stride: int = 1
) -> list[Part]:
    """Return the parts between these seams, of frames at these ascending times.

    stride: how many frames there are to one that is given to the shot detector.
    """
    frames = np.searchsorted(times_s, seams_s).tolist()
    edges = [_Edge.at(times_s, frame, stride) for frame in frames]
    return [
        Part(
            number=i,
            video_start_s=float(times_s[0]),
            begin_s=before.begin_s if before else None,
            from_s=before.seam_s if before else None,
            to_s=after.seam_s if after else None,
            stop_s=after.stop_s if after else None,
        )
        for i, (before, after) in enumerate(pairwise([None, *edges, None]))
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Edge:
    """A seam: where the part after it begins to decode, and the one before it stops."""

    begin_s: float | None
    seam_s: float
    stop_s: float | None

    @classmethod
    def at(cls, times_s: NDArray[np.float64], frame: int, stride: int) -> _Edge:
        seam_s, last = float(times_s[frame]), len(times_s)
        first, end = np.searchsorted(times_s, [seam_s - ZONE_S, seam_s + ZONE_S])
        begin = first_decoded(int(first), stride)
        stop = ((int(end) - 1) // (WINDOW * stride) * WINDOW + AFTER) * stride
        return cls(
            begin_s=float(times_s[begin]) if begin else None,
            seam_s=seam_s,
            stop_s=float(times_s[stop]) if stop < last else None,
        )


def first_decoded(frame: int, stride: int = 1) -> int:
    """Return the frame from which on a part is decoded, so that scores from `frame` on are right.

    frame: number of a frame of the whole video; so is the result, a multiple of `ALIGN` frames that
    are given to the detector.
    """
    given = frame // stride // WINDOW * WINDOW
    return max(0, (given - BEFORE) // ALIGN * ALIGN) * stride


def frames_from(
    video: OpenVideo,
    from_s: float,
    reopened: Callable[[], OpenVideo],
    on_frame: Callable[[], None] | None = None,
) -> Iterator[VideoFrame]:
    """Yield frames in order from the one at `from_s` on, wherever a seek leads.

    Where a decoder begins behind that frame, or stamps it otherwise (program streams have a stamp
    now and then only), the seek goes further back. reopened: opens the file again, for what only a
    pass from its beginning finds. on_frame: called for each frame that is passed over.
    """
    assert video.stream.time_base is not None
    for back_s in _BACK_S:
        target = int((from_s - back_s) / video.stream.time_base)
        try:
            video.container.seek(target, stream=video.stream, backward=True)
        except av.FFmpegError:
            break
        frames = video.frames_from_keyframe()
        first = _first_from(frames, from_s, on_frame)
        if first is not None and _time_s(first) <= from_s + SLACK_S:
            yield first
            yield from frames
            return
    frames = reopened().frames()
    first = _first_from(frames, from_s, on_frame)
    if first is not None:
        yield first
    yield from frames


def _time_s(frame: VideoFrame) -> float:
    return np.inf if frame.time is None else frame.time


def _first_from(
    frames: Iterator[VideoFrame], from_s: float, on_frame: Callable[[], None] | None
) -> VideoFrame | None:
    """Return the first frame that is not before `from_s`, None where there is none."""
    for frame in frames:
        if from_s - SLACK_S <= _time_s(frame) < np.inf:
            return frame
        if on_frame is not None:
            on_frame()
    return None
