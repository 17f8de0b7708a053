"""Whether the stamps of a file are its times, as its packets show it: nothing is decoded.

A time that the clock repaired may be the raw stamp of another frame, which a seek would find. Who
knows what decoding said of the file (`clock.repaired_by`) need not look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING

import av

from marc_core.video.pyav import open_container, video_stream

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


def stamps_are_times(
    path: str | Path, *, stream: int = 0, on_packet: Callable[[], None] | None = None
) -> bool:
    """Return whether every packet of a video stream is stamped, and in the order of pictures.

    Reads the whole file where they are, else up to the first that is not. Raises
    UnreadableVideoError.
    """
    name = str(path)
    with open_container(name) as container:
        pictures = video_stream(name, container, stream)
        depth = pictures.codec_context.reorder_depth
        try:
            return keeps_order(_stamps(container, pictures, on_packet), depth)
        except av.FFmpegError:
            return False


def _stamps(
    container: InputContainer, stream: VideoStream, on_packet: Callable[[], None] | None
) -> Iterator[int | None]:
    for packet in container.demux(stream):
        if on_packet is not None:
            on_packet()
        if packet.size and not packet.is_discard:
            yield packet.pts


def keeps_order(stamps: Iterable[int | None], depth: int) -> bool:
    """Return whether stamps increase once a decoder has put its packets into order.

    stamps: of packets in decoding order. depth: pictures that the decoder holds back for that.
    """
    last: int | None = None
    for first in _reordered(stamps, depth):
        if first is None or (last is not None and first <= last):
            return False
        last = first
    return True


def _reordered(stamps: Iterable[int | None], depth: int) -> Iterator[int | None]:
    held: list[int] = []
    for stamp in stamps:
        if stamp is None:
            yield None
            return
        heappush(held, stamp)
        if len(held) > depth:
            yield heappop(held)
    yield from sorted(held)
