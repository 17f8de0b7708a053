"""A video for browsers, made in a process of its own: `python -m serving.convert`, one JSON line
on standard input. A file that makes a decoder loop, crash or eat memory costs that process only.

    {"source", "stream", "target", "convert", "memory_bytes"}
    -> {"type": "video/mp4", "made": false}    browsers play the file as it is
       {"type": "video/mp4", "made": true}     they play `target`: streams copied, or coded anew
       {"error": "..."}

The source is opened as for indexing: by the `file` protocol and a closed list of formats, so that a
playlist that is called clip.mp4 shows nobody another file; pictures larger than indexing takes are
refused.

What browsers play everywhere: H.264 or AV1 with AAC, MP3, Opus or FLAC in MP4; VP8, VP9 or AV1 with
Opus or Vorbis in WebM.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from typing import Any

import av

from marc_core.config import VideoConfig
from marc_core.errors import VideoError, VideoLimitError
from marc_core.video.pyav import open_container

_MP4_VIDEO, _MP4_AUDIO = {"h264", "av1"}, {"aac", "mp3", "opus", "flac"}
_WEBM_VIDEO, _WEBM_AUDIO = {"vp8", "vp9", "av1"}, {"opus", "vorbis"}
_PIXELS = {"yuv420p", "yuvj420p"}
_QUALITY = {"preset": "veryfast", "crf": "26"}
"""Of H.264 that is coded anew (our choice: quick, and good enough to look an event up)."""
_MAX_SIDE = 1280
"""Pictures that are coded anew are shrunk to this (our choice)."""


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.readline())
    if request["memory_bytes"]:
        resource.setrlimit(resource.RLIMIT_AS, (request["memory_bytes"],) * 2)
    try:
        answer = prepare(
            request["source"], request["target"], request["stream"], convert=request["convert"]
        )
    except (VideoError, av.FFmpegError, OSError, ValueError, MemoryError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(answer) + "\n")


def prepare(source: str, target: str, stream: int, *, convert: bool) -> dict[str, Any]:
    """Write what browsers play to `target`, unless they play `source`. Raises what PyAV raises, and
    VideoError."""
    with open_container(source) as container:
        kind = playable(container) if stream == 0 else None
        if kind is not None or not convert:
            return {"type": kind or "application/octet-stream", "made": False}
        if stream >= len(container.streams.video):
            raise VideoError("it has no such video stream")
        video = container.streams.video[stream]
        _check_size(video.codec_context)
        audio = list(container.streams.audio)[:1]
        copied = video.codec_context.name in _MP4_VIDEO and _is_plain(video)
        with av.open(target, "w", format="mp4", options={"movflags": "+faststart"}) as out:
            (_copy if copied else _code)(container, out, video, audio)
    return {"type": "video/mp4", "made": True}


def playable(container: Any) -> str | None:
    """Return the type of a file that browsers play as it is, else None."""
    videos = {s.codec_context.name for s in container.streams.video}
    audios = {s.codec_context.name for s in container.streams.audio}
    names = set(container.format.name.split(","))
    if "mp4" in names and videos <= _MP4_VIDEO and audios <= _MP4_AUDIO:
        if all(_is_plain(s) for s in container.streams.video):
            return "video/mp4"
    elif "webm" in names and videos <= _WEBM_VIDEO and audios <= _WEBM_AUDIO:
        return "video/webm"
    return None


def _is_plain(stream: Any) -> bool:
    return stream.codec_context.name != "h264" or stream.codec_context.pix_fmt in _PIXELS


def _copy(container: Any, out: Any, video: Any, audio: Sequence[Any]) -> None:
    """Copy the packets of streams that MP4 may hold; sound that it may not hold is left out."""
    kept = [video, *(a for a in audio if a.codec_context.name in _MP4_AUDIO)]
    targets = {stream.index: out.add_stream_from_template(stream) for stream in kept}
    for packet in container.demux(kept):
        if packet.dts is not None:
            packet.stream = targets[packet.stream.index]
            out.mux(packet)


def _code(container: Any, out: Any, video: Any, audio: Sequence[Any]) -> None:
    """Decode and code anew: H.264 and AAC."""
    width, height = _size(video.codec_context.width, video.codec_context.height)
    picture = out.add_stream("libx264", rate=video.average_rate or 25, options=_QUALITY)
    picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
    sound = out.add_stream("aac", rate=audio[0].codec_context.sample_rate) if audio else None
    for packet in container.demux([video, *audio]):
        try:
            frames = packet.decode()
        except av.InvalidDataError:  # as players do: on with the next one
            continue
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                _check_size(frame)
                out.mux(picture.encode(frame.reformat(width, height, "yuv420p")))
            elif sound is not None:
                out.mux(sound.encode(frame))
    for stream in (picture, sound):
        if stream is not None:
            out.mux(stream.encode(None))


def _check_size(picture: Any) -> None:
    most = VideoConfig().max_pixels
    if picture.width * picture.height > most:
        raise VideoLimitError(f"a picture of {picture.width} x {picture.height} is too large")


def _size(width: int, height: int) -> tuple[int, int]:
    """Return even numbers, no side above `_MAX_SIDE`."""
    scale = min(1.0, _MAX_SIDE / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


if __name__ == "__main__":
    main()
