"""The sample of an archive that stands for all of it: which videos, and a stretch of each.

videos --spread, by bytes--> opened, for their length_s
       --spread, by length--> timed, by a copy_stretch of each
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marc_core.errors import MarcError
from marc_core.types import SYNTHETIC_COMMENT, VideoSource

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a video that stands for it: a file, the number of the video stream in it.

    synthetic: whether the video says of itself that it is rendered.
    """

    path: str
    stream: int = 0
    synthetic: bool = False


def spread(weights: Sequence[float], count: int) -> list[int]:
    """Return at most `count` positions, evenly spread over the sum of the weights.

    The larger a weight, the likelier it is taken, and none twice; all, where there are no more.
    """
    if len(weights) <= count:
        return list(range(len(weights)))
    order = sorted(range(len(weights)), key=lambda i: weights[i])
    ends = list(accumulate(max(weights[i], 1e-9) for i in order))
    places = ((k + 0.5) / count * ends[-1] for k in range(count))
    return sorted({order[bisect_right(ends, place)] for place in places})


def length_s(source: VideoSource, options: Mapping[str, str]) -> float | None:
    """Return how long a video says that it is: 0 where it cannot be opened, None where it does not
    say. Only the container is read; nothing is decoded."""
    import av

    from marc_core.video import local_copy

    try:
        with local_copy(source, options) as path, av.open(path) as container:
            stream = container.streams.best("video")
            if stream is None:
                return 0.0
            if stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            return container.duration / av.time_base if container.duration else None
    except (MarcError, av.FFmpegError, OSError, ValueError):
        return 0.0


def archive_s(
    sources: Sequence[VideoSource],
    opened: Sequence[VideoSource],
    lengths: Sequence[float | None],
) -> float:
    """Return the seconds of video of all `sources`, from those of the `opened` ones.

    These were drawn in proportion to their bytes, so their mean of seconds a byte is the archive's.
    """
    sizes = [max(source.size_bytes, 1) for source in opened]
    pairs = [(n, s) for n, s in zip(lengths, sizes, strict=True) if n is not None]
    rate = sum(n / s for n, s in pairs) / len(pairs)
    if len(opened) < len(sources):
        return rate * sum(source.size_bytes for source in sources)
    silent = sum(s for n, s in zip(lengths, sizes, strict=True) if n is None)
    return sum(n for n, _ in pairs) + rate * silent


def copy_stretch(path: str, out: Path, seconds: float, *, stream: int = 0) -> Stretch:
    """Return `seconds` from the middle of a video, copied packet by packet to `out`, with the sound
    that belongs to them.

    The file itself where it is not much longer than that, or where no copy can be made of it.
    Raises UnreadableVideoError.
    """
    import av

    from marc_core.video.pyav import open_container, video_stream

    with open_container(path) as given:
        pictures = video_stream(path, given, stream)
        synthetic = given.metadata.get("comment") == SYNTHETIC_COMMENT
        length = float(given.duration or 0) / av.time_base
        if length <= seconds * 1.5:
            return Stretch(path, stream, synthetic)
        try:
            _copy(given, pictures, out, length, seconds)
        except (av.FFmpegError, ValueError, OSError):
            return Stretch(path, stream, synthetic)
    return Stretch(str(out), 0, synthetic)


def _copy(
    given: InputContainer, pictures: Stream, out: Path, length_s: float, seconds: float
) -> None:
    import av

    sound = given.streams.best("audio", related=pictures)
    wanted = [pictures] if sound is None else [pictures, sound]
    start_s = float(given.start_time or 0) / av.time_base
    given.seek(int((start_s + (length_s - seconds) / 2) * av.time_base))
    with av.open(str(out), "w") as copy:
        _copy_packets(given, copy, wanted, seconds)


def _copy_packets(
    given: InputContainer, copy: OutputContainer, wanted: Sequence[Stream], seconds: float
) -> None:
    """Copy what lies within `seconds` of the first packet of the first of the streams `wanted`."""
    targets: dict[int, Any] = {s.index: copy.add_stream_from_template(s) for s in wanted}
    first_s = None
    for packet in given.demux(*wanted):
        if packet.dts is None or packet.pts is None:
            continue
        time_s = float(packet.pts * packet.time_base)
        if packet.stream == wanted[0]:
            first_s = time_s if first_s is None else first_s
            if time_s - first_s > seconds:
                break
        if first_s is not None and time_s - first_s <= seconds:
            packet.stream = targets[packet.stream.index]
            copy.mux(packet)
