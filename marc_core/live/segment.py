"""One segment file: a Matroska into which packets of a source are copied.

Matroska takes the pictures of every camera and most sound (the rest is decoded: sound.py), and what
of it is written can be read although the writer was killed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marc_core.live.sound import DecodedSound

if TYPE_CHECKING:
    from av import Packet
    from av.container import OutputContainer

CLUSTER_MS = 1000
"""What a killed recorder loses at most (our choice)."""
_WITH_HEADERS_INSIDE = frozenset({"h264", "hevc", "av1", "mpeg2video", "mpeg4", "vc1"})
"""Codecs whose headers (picture size and more) may come, and change, within the stream."""
_APART = b"\x01"
"""How headers begin (avcC, hvcC) that a container keeps apart: then none come within the stream."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """What decoders must be told before the first picture; a change of it needs a new segment."""

    codec: str
    width: int
    height: int
    headers: bytes

    @classmethod
    def of(cls, packet: Packet[Any], before: Parameters | None) -> Parameters:
        """Return those that hold from a keyframe on.

        before: those of the keyframe before it in the same connection, else None.
        """
        context: Any = packet.stream.codec_context
        told = cls(
            codec=context.name, width=context.width, height=context.height,
            headers=bytes(context.extradata or b""),
        )  # fmt: skip
        inside = headers_inside(packet, told)
        if not inside:
            return before or told
        if inside == told.headers:
            return told
        if before is not None and before.headers == inside:
            return before
        width, height = size_of(packet, inside)
        return replace(told, headers=inside, width=width, height=height)


def headers_inside(packet: Packet[Any], told: Parameters) -> bytes:
    """Return the codec's headers that a keyframe carries, or nothing where it carries none."""
    from av import FFmpegError
    from av.bitstream import BitStreamFilterContext

    if told.codec not in _WITH_HEADERS_INSIDE or told.headers.startswith(_APART):
        return b""
    try:
        split = BitStreamFilterContext("extract_extradata", packet.stream)
        for out in split.filter(_copy(packet)):
            if out.has_sidedata("new_extradata"):
                return bytes(out.get_sidedata("new_extradata"))
    except (FFmpegError, ValueError):  # not of this codec
        return b""
    return b""


def size_of(packet: Packet[Any], headers: bytes) -> tuple[int, int]:
    """Return the size of the picture of a keyframe, decoded; (0, 0) where it shows none."""
    from av import CodecContext, FFmpegError

    stream: Any = packet.stream
    decoder: Any = CodecContext.create(stream.codec_context.name, "r")
    decoder.extradata = headers
    decoder.thread_count = 1
    try:
        frames = [*decoder.decode(_copy(packet)), *decoder.decode(None)]
    except FFmpegError:
        return 0, 0
    return (frames[0].width, frames[0].height) if frames else (0, 0)


def _copy(packet: Packet[Any]) -> Packet[Any]:
    from av import Packet

    copy: Packet[Any] = Packet(bytes(packet))
    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
    copy.is_keyframe = packet.is_keyframe
    return copy


class Segment:
    """An open segment file. wall_s: Unix seconds of its first picture."""

    def __init__(
        self, path: Path, packet: Packet[Any], parameters: Parameters, wall_s: float
    ) -> None:
        import av

        self.path, self.wall_s = path, wall_s
        options = {"cluster_time_limit": str(CLUSTER_MS), "flush_packets": "1"}
        self._out: OutputContainer = av.open(
            os.fspath(path), "w", format="matroska", options=options
        )
        self._streams: dict[str, Any] = {}
        self._sound: DecodedSound | None = None
        self._last_dts: dict[str, int] = {}
        self.length_s = 0.0
        container = packet.stream.container
        for kind in ("video", "audio"):
            stream = container.streams.best(kind)
            if stream is not None and stream.codec_context is not None:
                self._streams[kind] = self._added(kind, stream)
        self._set(parameters, packet)

    def _added(self, kind: str, stream: Any) -> Any:
        try:
            return self._out.add_stream_from_template(stream)
        except ValueError:  # Matroska does not take the codec
            if kind == "video":
                raise
            self._sound = DecodedSound(self._out, stream)
            return self._sound.stream

    def _set(self, parameters: Parameters, packet: Packet[Any]) -> None:
        """Give the file the headers that hold now, not those of the connection's begin."""
        context = packet.stream.codec_context
        told = bytes(context.extradata or b"")
        if parameters.headers in (told, b""):
            return
        out = self._streams["video"].codec_context
        out.extradata = parameters.headers
        if parameters.width:
            out.width, out.height = parameters.width, parameters.height

    @property
    def has_audio(self) -> bool:
        """Whether the segment has sound, which may come later than its pictures."""
        return "audio" in self._streams

    def mux(self, packet: Packet[Any], pts_s: float, dts_s: float) -> None:
        """Copy a packet; times are from the segment's first picture. Changes the packet.

        What cannot be shown is left out: pictures before the first one (they need pictures of the
        segment before), and stamps that do not go on.
        """
        kind = packet.stream.type
        out, base = self._streams.get(kind), float(packet.time_base)
        dts = round(dts_s / base)
        if out is None or pts_s < -base or dts <= self._last_dts.get(kind, dts - 1):
            return
        length_s = float((packet.duration or 0) * packet.time_base)
        if kind == "video":
            self.length_s = max(self.length_s, pts_s + (length_s or self._step_s(dts, base)))
        self._last_dts[kind] = dts
        if kind == "audio" and self._sound is not None:
            self._out.mux(list(self._sound.packets(packet, pts_s)))
            return
        packet.pts, packet.dts, packet.stream = round(pts_s / base), dts, out
        self._out.mux_one(packet)

    def _step_s(self, dts: int, base: float) -> float:
        return (dts - self._last_dts.get("video", dts)) * base

    def close(self) -> float:
        """Finish the file; return its length in seconds."""
        self._out.close()
        return self.length_s


def measure(path: Path) -> float | None:
    """Return how long the pictures of a file that was not finished last; None: there are none."""
    import av

    length_s = None
    try:
        with av.open(os.fspath(path)) as container:
            stream = container.streams.best("video")
            for packet in container.demux(stream) if stream is not None else ():
                if packet.pts is not None:
                    end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    length_s = max(length_s or 0.0, end_s)
    except av.FFmpegError:  # as far as it can be read
        return length_s
    return length_s
