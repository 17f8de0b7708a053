"""Which files decord may decode: those where its frames are known to be PyAV's frames.

decord 0.6 gives wrong frames without an error on whole classes of files, so a file is admitted
only when one pass over its packets (no decoding) shows none of the reasons below. Whatever cannot
be seen in packets is refused by class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import av

from marc_core.types import VideoInfo
from marc_core.video.pyav import open_container, video_stream
from marc_core.video.stamps import keeps_order

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

_CONTAINERS = frozenset({"mp4", "mov", "matroska", "webm"})
_CODECS = frozenset({"h264", "hevc"})
"""Codecs whose packets show when the picture changes its size (by a new parameter set)."""

_PARAMETER_SETS = {"h264": frozenset({7}), "hevc": frozenset({33})}
"""NAL unit types of the sequence parameter set, which carries the picture size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """Result of the pass over the packets: why not decord (None: admitted), and frame times.

    `shown_s`: how long the file says that each of them is shown; 0 where it does not.
    """

    refusal: str | None
    times_s: tuple[float, ...] = ()
    shown_s: tuple[float, ...] = ()


def admit_decord(path: str | Path, info: VideoInfo) -> str | None:
    """Return why decord must not decode `path`, or None when it may. Reads, decodes nothing."""
    return inspect(path, info).refusal


def inspect(path: str | Path, info: VideoInfo) -> Inspection:
    """Return the refusal, or the times of all frames in presentation order.

    Raises UnreadableVideoError when the file cannot be opened.
    """
    refusal = _refused_by_class(info)
    if refusal is not None:
        return Inspection(refusal=refusal)
    name = str(path)
    with open_container(name) as container:
        if len(container.streams.video) > 1:
            return Inspection(refusal="more than one video stream")
        return _inspect_packets(video_stream(name, container), info)


def _refused_by_class(info: VideoInfo) -> str | None:
    names = set(info.container.split(","))
    if not names & _CONTAINERS:
        return f"container {info.container} (admitted: {', '.join(sorted(_CONTAINERS))})"
    if info.codec not in _CODECS:
        return f"codec {info.codec} (admitted: {', '.join(sorted(_CODECS))})"
    if info.mirrored:
        return "the picture is mirrored, which decord ignores"
    if info.rotation_deg:
        return f"rotation by {info.rotation_deg} degrees, which decord applies to some files only"
    return None


def _inspect_packets(stream: VideoStream, info: VideoInfo) -> Inspection:
    shown: dict[int, int | None] = {}
    pts: list[int] = []
    parameter_sets: set[bytes] = set()
    extradata = stream.codec_context.extradata
    length_bytes = _nal_length_bytes(info.codec, extradata)
    try:
        for packet in stream.container.demux(stream):  # type: ignore[attr-defined]
            if packet.size == 0:
                continue
            if packet.pts is None:
                return Inspection(refusal="a packet has no timestamp")
            if packet.is_corrupt:
                return Inspection(refusal="a packet is marked as damaged")
            if packet.is_discard:
                return Inspection(refusal="an edit list cuts frames away")
            if packet.has_sidedata("new_extradata"):
                return Inspection(refusal="the picture format changes inside the stream")
            if packet.is_keyframe:
                parameter_sets |= set(_sequence_sets(packet, info.codec, length_bytes))
            pts.append(packet.pts)
            shown[packet.pts] = packet.duration
    except av.FFmpegError as error:
        return Inspection(refusal=f"its packets cannot all be read: {error.strerror}")
    return _judge(pts, shown, parameter_sets, stream, info)


def _judge(
    pts: list[int],
    shown: dict[int, int | None],
    parameter_sets: set[bytes],
    stream: VideoStream,
    info: VideoInfo,
) -> Inspection:
    base = stream.time_base
    refusal = None
    if not pts or base is None:
        refusal = "it has no packets"
    elif len(parameter_sets) > 1:
        refusal = "the picture format changes inside the stream"
    elif min(pts) != 0:
        refusal = f"the first timestamp is {float(min(pts) * base):.3f} s, not 0"
    elif pts[0] != 0:
        refusal = "it begins with pictures that refer to missing ones"
    elif len(set(pts)) < len(pts):
        refusal = "timestamps repeat"
    elif not keeps_order(pts, stream.codec_context.reorder_depth):
        refusal = "timestamps are out of line"
    elif info.num_frames is not None and info.num_frames != len(pts):
        refusal = f"{info.num_frames} frames promised, {len(pts)} packets found"
    if refusal is not None or base is None:
        return Inspection(refusal=refusal)
    return Inspection(
        refusal=None,
        times_s=tuple(float(p * base) for p in sorted(pts)),
        shown_s=tuple(float((shown[p] or 0) * base) for p in sorted(pts)),
    )


def _nal_length_bytes(codec: str, extradata: bytes | None) -> int:
    """Return the bytes of a NAL unit's length, or 0 for start codes (Annex B)."""
    if not extradata or extradata[0] != 1:
        return 0
    at = 4 if codec == "h264" else 21
    return (extradata[at] & 3) + 1 if len(extradata) > at else 0


def _sequence_sets(packet: Packet[VideoStream], codec: str, length_bytes: int) -> Iterator[bytes]:
    for unit in _nal_units(bytes(packet), length_bytes):
        kind = unit[0] & 31 if codec == "h264" else (unit[0] >> 1) & 63
        if kind in _PARAMETER_SETS[codec]:
            yield unit


def _nal_units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    if length_bytes == 0:
        for unit in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]:
            if unit:
                yield unit
        return
    at = 0
    while at + length_bytes < len(data):
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        if size:
            yield data[at : at + min(size, 512)]
        at += size
