"""How a long recording is divided: parts that are sought, or parts of one pass.

    packets --sound stamps, keyframes--> seams at keyframes: each part is decoded by itself
            --any doubt----------------> the times that the clock will give, as far as packets tell:
                                         parts of one pass from the beginning, in order

Nothing is decoded but the first frames. Where a part in order begins is a time from which on its
first frame is looked for, so it may be wrong by any number of frames; how many parts there are, and
how long, is what it is for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from marc_core.video.clock import Clock
from marc_core.video.decode import make_clock, timed_frames
from marc_core.video.parts import (
    Layout,
    Packets,
    Part,
    doubt,
    parts_of,
    read_packets,
    seams,
)
from marc_core.video.pyav import (
    further_streams,
    open_container,
    open_video,
    promised_duration_s,
    video_stream,
)
from marc_core.video.seams import in_order
from marc_core.video.wrap import Unwrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.config import EventConfig, VideoConfig

FEW_KEYFRAMES = "it has fewer keyframes than parts"


def part_seconds(config: VideoConfig) -> float:
    """Return how long parts are: `part_s`, or less where that were too many samples."""
    return min(config.part_s, config.max_sampled_frames / config.sample_fps)


def lay_out(
    path: str | Path,
    config: VideoConfig,
    part_s: float,
    events: EventConfig,
    *,
    stream: int = 0,
    on_packet: Callable[[], None] | None = None,
) -> Layout | None:
    """Return a recording as parts of about `part_s`; None where it is no longer than one. events:
    which frames are given to the shot detector. Raises what `open_video` raises."""
    with open_container(str(path)) as container:
        promised_s = promised_duration_s(container, video_stream(str(path), container, stream))
    if promised_s is not None and promised_s <= part_s:
        return None
    packets = read_packets(path, stream=stream, on_packet=on_packet)
    why, at_s = doubt(packets), np.zeros(0)
    if why is None:
        at_s = seams(packets, part_s)
        why = None if len(at_s) else FEW_KEYFRAMES
    with open_video(path, config, stream=stream) as video:
        info, step_s = video.info, video.step_s
        if why is None:
            times_s = np.sort(packets.times_s)
            parts = parts_of(times_s, at_s, events.stride(info.fps))
        else:
            start_s, _ = next(timed_frames(video, make_clock(video), config, video.frames()))
            times_s = expected_times(packets, step_s, start_s)
            parts = parts_in_order(start_s, anywhere(times_s, part_s))
    if len(parts) < 2:
        return None
    more = further_streams(info.num_streams, stream, config).strip()
    return Layout(
        info=info,
        end_s=float(times_s[-1]) + step_s,
        parts=tuple(parts),
        warnings=(more,) if more else (),
        doubt=why,
    )


def expected_times(packets: Packets, step_s: float, start_s: float) -> NDArray[np.float64]:
    """Return the times that the clock will give to the pictures in these packets, ascending.

    A packet that holds two pictures, half of one or a broken one makes those after it wrong by as
    much, where they bear no stamps of their own.
    """
    clock, unwrap = Clock(step_s=step_s, start_s=start_s), Unwrap(packets.wrap_s)
    stamps = [None if math.isnan(time_s) else time_s for time_s in packets.times_s.tolist()]
    known = zip(range(len(stamps)), stamps, packets.is_key.tolist(), strict=True)
    times_s = [
        time_s
        for _, stamp_s in in_order(known, packets.reorder_depth)
        for time_s in clock.push(unwrap(stamp_s))
    ]
    return np.array([*times_s, *clock.finish()], np.float64)


def anywhere(times_s: NDArray[np.float64], part_s: float) -> NDArray[np.float64]:
    """Return seams as `parts.seams` does, of frames at these times, each of which may be one."""
    every = Packets(
        times_s=times_s,
        decode_ticks=np.arange(len(times_s), dtype=np.float64),
        is_key=np.ones(len(times_s), np.bool_),
    )
    return seams(every, part_s)


def parts_in_order(start_s: float, seams_s: NDArray[np.float64]) -> list[Part]:
    """Return the parts between these times of a video that is decoded in one pass."""
    edges = [None, *seams_s.tolist(), None]
    return [
        Part(
            number=number,
            video_start_s=start_s,
            begin_s=None,
            from_s=from_s,
            to_s=to_s,
            stop_s=None,
            in_order=True,
        )
        for number, (from_s, to_s) in enumerate(pairwise(edges))
    ]
