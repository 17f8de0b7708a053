"""Where the clock of a video started again, as the packets of its pictures show it.

    packets of pictures --in the order of pictures, through the Clock--> runs of (stamps, shift)
    a stamp of anything else in the file --Seams.time_of--> its time on the video's clock

Nothing is decoded: one pass over the packets. Frames that a decoder drops after a restart count
here, so times after it can be late by as much (a picture or two; up to a group of pictures where
parts were cut anywhere and joined).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import av

from marc_core.video.clock import Clock
from marc_core.video.pyav import DEFAULT_FPS, open_container, video_stream
from marc_core.video.wrap import Unwrap, wrap_after_s

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_ROUNDING_S = 1e-6
_BESIDE = 500
"""Packets by which sound and pictures of one time may be apart in a file (our choice: 10 s)."""


@dataclass(slots=True)
class _Run:
    """Pictures between two restarts: their packets and stamps, and what was added to these."""

    first: int
    last: int
    least_s: float
    most_s: float
    shift_s: float

    def distance_s(self, stamp_s: float) -> float:
        return max(self.least_s - stamp_s, stamp_s - self.most_s, 0.0)


class Seams:
    """Moves stamps onto the video's clock. Without runs, a stamp is its time."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._passed = 0

    def add(self, number: int, stamp_s: float, shift_s: float) -> None:
        """Note that `shift_s` was added to the stamp of the picture in packet `number`."""
        run = self._runs[-1] if self._runs else None
        if run is None or shift_s != run.shift_s:
            self._runs.append(_Run(number, number, stamp_s, stamp_s, shift_s))
        else:
            run.last = max(run.last, number)
            run.least_s, run.most_s = min(run.least_s, stamp_s), max(run.most_s, stamp_s)

    def time_of(self, stamp_s: float, number: int) -> float:
        """Return the time of a stamp in packet `number`: as that of the pictures around it.

        Of the runs whose packets lie near, the one whose stamps come nearest. Numbers increase.
        """
        runs = self._runs
        while self._passed + 1 < len(runs) and runs[self._passed].last + _BESIDE < number:
            self._passed += 1
        near = runs[self._passed : self._passed + 1]
        for run in runs[self._passed + 1 :]:
            if run.first - _BESIDE > number:
                break
            near.append(run)
        if not near:
            return stamp_s
        best = min(near, key=lambda run: (run.distance_s(stamp_s), abs(run.first - number)))
        return stamp_s + best.shift_s


def find_seams(path: str, *, stream: int = 0, on_packet: Callable[[], None] | None = None) -> Seams:
    """Return how the stamps of a file's video stream became times. Raises UnreadableVideoError."""
    seams = Seams()
    with open_container(path) as container:
        pictures = video_stream(path, container, stream)
        tick = pictures.time_base
        unwrap = Unwrap(wrap_after_s(container.format.name, None if tick is None else float(tick)))
        rate = pictures.average_rate or pictures.guessed_rate
        clock = Clock(step_s=1.0 / float(rate or DEFAULT_FPS))
        waiting: list[tuple[int, float | None]] = []
        depth = pictures.codec_context.reorder_depth
        for number, stamp_s in in_order(_stamps(container, pictures, on_packet), depth):
            waiting.append((number, unwrap(stamp_s)))
            _note(seams, waiting, clock.push(waiting[-1][1]), clock.offset_s)
        _note(seams, waiting, clock.finish(), clock.offset_s)
    return seams


def _note(
    seams: Seams, waiting: list[tuple[int, float | None]], times: list[float], offset_s: float
) -> None:
    """Note the pictures that are decided; those whose stamps were not believed say nothing."""
    for (number, stamp_s), time_s in zip(waiting, times, strict=False):
        if stamp_s is not None and abs(stamp_s + offset_s - time_s) < _ROUNDING_S:
            seams.add(number, stamp_s, offset_s)
    del waiting[: len(times)]


def _stamps(
    container: InputContainer, stream: VideoStream, on_packet: Callable[[], None] | None
) -> Iterator[tuple[int, float | None, bool]]:
    """Yield (number, stamp, keyframe) of the pictures, numbered with the packets of sound."""
    number = 0
    try:
        for packet in container.demux():
            if on_packet is not None:
                on_packet()
            number += packet.stream.type in ("video", "audio")
            if packet.stream == stream and packet.size and not packet.is_discard:
                stamp = packet.pts
                stamp_s = None if stamp is None else float(stamp * packet.time_base)
                yield number, stamp_s, packet.is_keyframe
    except av.FFmpegError:
        return  # what follows cannot be read: its sound cannot either


def in_order(
    packets: Iterable[tuple[int, float | None, bool]], depth: int
) -> Iterator[tuple[int, float | None]]:
    """Yield (number, stamp) as a decoder that holds `depth` pictures gives them: sorted between
    keyframes. packets: (number, stamp, keyframe)."""
    held: list[tuple[float, int]] = []
    for number, stamp_s, is_key in packets:
        while held and (is_key or stamp_s is None or len(held) > depth):
            first_s, first = heappop(held)
            yield first, first_s
        if stamp_s is None:
            yield number, None
        else:
            heappush(held, (stamp_s, number))
    while held:
        first_s, first = heappop(held)
        yield first, first_s
