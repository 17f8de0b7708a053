"""The decoding child: `python -m marc_core.video.child <data fd>`.

    stdin: one JSON request a line      {"op": "decode", "path": ..., "config": {...}}
    <data fd>: wire messages            info, alive*, chunk*, summary | alive*, frames*, end |
                                        alive*, picture*, end | alive*, sound*, end | error
    stderr: what decoders print; its last line explains a crash

A thread reads stdin, and its end ends the process at once, even while a decoder loops: the child
never outlives its parent. Errors of our own are not caught: they end the process with a trace.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marc_core.config import EventConfig, VideoConfig
from marc_core.errors import VideoError, VideoLimitError
from marc_core.filenames import shown
from marc_core.video import wire
from marc_core.video.audio import sound_blocks
from marc_core.video.backend import decode
from marc_core.video.exact import Following, find_frames
from marc_core.video.layout import lay_out
from marc_core.video.parts import Part
from marc_core.video.pictures import Stretch, find_pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FRAMES_PER_MESSAGE = 32
"""Frames of a read that are sent together (our choice: 10 MB)."""
_ALIVE_INTERVAL_S = 1.0
"""Distance of signs of life between chunks (our choice: well below every stall timeout)."""


def main() -> None:
    """Serve requests until stdin ends."""
    data_fd = int(sys.argv[1])
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    limited, following = False, Following()
    while True:
        request = json.loads(requests.get())
        config = VideoConfig(**request["config"])
        if not limited:
            _limit_memory(config.child_memory_bytes)
            limited = True
        try:
            _serve(data_fd, request, config, following)
        except BrokenPipeError:
            os._exit(0)


def _read_requests(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def _limit_memory(extra_bytes: int) -> None:
    if extra_bytes:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _serve(fd: int, request: dict[str, Any], config: VideoConfig, following: Following) -> None:
    served: dict[str, Callable[[int, dict[str, Any], VideoConfig], None]] = {
        "decode": _serve_decode,
        "read": _serve_read,
        "follow": partial(_serve_follow, following),
        "pictures": _serve_pictures,
        "sound": _serve_sound,
        "lay_out": _serve_lay_out,
    }
    try:
        served[request["op"]](fd, request, config)
    except VideoError as error:
        fields = {"type": type(error).__name__, "message": str(error)}
        wire.send(fd, "error", {**fields, "num_streams": error.num_streams}, {})
    except MemoryError:
        wire.send(
            fd, "error", {"type": VideoLimitError.__name__, "message": _no_memory(request)}, {}
        )


def _no_memory(request: dict[str, Any]) -> str:
    return (
        f"Decoding '{shown(request['path'])}' needs more memory than allowed. Raise "
        "video.child_memory_bytes."
    )


def _serve_decode(fd: int, request: dict[str, Any], config: VideoConfig) -> None:
    sign = _SignOfLife(fd)
    part = None if request["part"] is None else Part.from_json(request["part"])
    stream = request["stream"]
    with decode(request["path"], config, stream=stream, on_frame=sign, part=part) as decoding:
        wire.send(fd, "info", asdict(decoding.info), {})
        for chunk in decoding:
            wire.send(fd, "chunk", wire.chunk_fields(chunk), wire.chunk_arrays(chunk))
            sign.reset()
        wire.send(fd, "summary", wire.summary_fields(decoding.summary), {})


def _serve_lay_out(fd: int, request: dict[str, Any], config: VideoConfig) -> None:
    sign = _SignOfLife(fd)
    events, stream = EventConfig(**request["events"]), request["stream"]
    layout = lay_out(
        request["path"], config, request["part_s"], events, stream=stream, on_packet=sign
    )
    wire.send(fd, "end", {"layout": None if layout is None else layout.to_json()}, {})


def _serve_read(fd: int, request: dict[str, Any], config: VideoConfig) -> None:
    sign = _SignOfLife(fd)
    asked = {name: request[name] for name in ("stream", "repaired")}
    part = None if request["part"] is None else Part.from_json(request["part"])
    times_s = request["times_s"]
    found = find_frames(request["path"], times_s, config, **asked, on_frame=sign, part=part)
    _send_frames(fd, found, sign)


def _serve_follow(
    following: Following, fd: int, request: dict[str, Any], config: VideoConfig
) -> None:
    sign, path, times_s = _SignOfLife(fd), request["path"], request["times_s"]
    found = following.find(path, times_s, config, stream=request["stream"], on_frame=sign)
    _send_frames(fd, found, sign)


def _send_frames(
    fd: int, found: Iterator[tuple[float, NDArray[np.uint8]]], sign: _SignOfLife
) -> None:
    while batch := list(itertools.islice(found, _FRAMES_PER_MESSAGE)):
        times_s, frames = zip(*batch, strict=True)
        wire.send(fd, "frames", {}, {"times_s": np.array(times_s), "frames": np.stack(frames)})
        sign.reset()
    wire.send(fd, "end", {}, {})


def _serve_pictures(fd: int, request: dict[str, Any], config: VideoConfig) -> None:
    sign = _SignOfLife(fd)
    stretches = [Stretch(*stretch) for stretch in request["stretches"]]
    asked = {name: request[name] for name in ("stream", "repaired")}
    found = find_pictures(request["path"], stretches, config, **asked, on_frame=sign)
    for number, time_s, frame_HWC in found:
        wire.send(fd, "picture", {"number": number, "time_s": time_s}, {"frame": frame_HWC})
        sign.reset()
    wire.send(fd, "end", {}, {})


def _serve_sound(fd: int, request: dict[str, Any], config: VideoConfig) -> None:
    sign = _SignOfLife(fd)
    asked = {name: request[name] for name in ("stream", "repaired", "until_s")}
    for block in sound_blocks(request["path"], **asked, on_packet=sign):
        fields = {"start_s": block.start_s, "joins": block.joins}
        wire.send(fd, "sound", fields, {"samples": block.samples})
        sign.reset()
    wire.send(fd, "end", {}, {})


class _SignOfLife:
    """Called for each decoded frame or packet; says "alive" once a second."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.reset()

    def reset(self) -> None:
        self._next_s = time.monotonic() + _ALIVE_INTERVAL_S

    def __call__(self) -> None:
        if time.monotonic() >= self._next_s:
            wire.send(self._fd, "alive", {}, {})
            self.reset()


if __name__ == "__main__":
    main()
