"""Small videos that decoders get wrong, rendered here; every frame shows its own number.

A frame's number is painted as eight black or white blocks (4 x 2, lowest bit first), which
survives every codec, scaling to 48 x 27 and colour conversion, and reads wrong when a frame is
turned, mirrored, repeated or lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

SIZE = (160, 96)


def paint_number(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 with `number` (0..255) as blocks."""
    bits = np.array([(number >> bit) & 1 for bit in range(8)], np.uint8).reshape(2, 4)
    rows = np.arange(height) * 2 // height
    columns = np.arange(width) * 4 // width
    return (bits[rows][:, columns, None] * 200 + 28).repeat(3, 2).astype(np.uint8)


def read_number(frame_HWC: NDArray[np.uint8]) -> int:
    """Return the number that `paint_number` painted, from the middles of the blocks."""
    height, width = frame_HWC.shape[:2]
    number = 0
    for bit in range(8):
        y, x = int((bit // 4 + 0.5) * height / 2), int((bit % 4 + 0.5) * width / 4)
        patch = frame_HWC[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        number |= int(patch.mean() > 128) << bit
    return number


def write_numbers(
    path: Path,
    *,
    codec: str = "libx264",
    count: int = 30,
    fps: int = 10,
    size: tuple[int, int] = SIZE,
    times_ms: Sequence[int] | None = None,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    first: int = 0,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    prepare: Callable[[Any], None] | None = None,
) -> Path:
    """Write `count` numbered frames. `times_ms` replaces the even times.

    With `rotation` (counter-clockwise degrees that a player turns) the pictures are stored turned
    the other way, so that a right reader sees upright numbers.
    """
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=fps, options=codec_options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.thread_count = 1
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if prepare is not None:
            prepare(stream)
        turned = size if rotation % 180 == 0 else size[::-1]
        for i in range(count):
            picture = np.rot90(paint_number(first + i, *turned), -rotation // 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts = i if times_ms is None else times_ms[i]
            frame.time_base = Fraction(1, fps) if times_ms is None else Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def write_audio(path: Path) -> Path:
    """Write a file with an audio stream only."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        for i in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.rate, frame.pts = 16000, 1024 * i
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def shift_copy(
    source: Path,
    path: Path,
    shift_s: float,
    options: dict[str, str],
    *,
    sound: bool = False,
) -> Path:
    """Copy the packets of `source` with all times moved by `shift_s`; nothing is encoded."""
    with (
        av.open(str(source)) as media,
        av.open(str(path), "w", options=options) as out,
    ):
        streams = [*media.streams.video[:1], *(media.streams.audio[:1] if sound else ())]
        copies = {stream.index: out.add_stream_from_template(stream) for stream in streams}
        for packet in media.demux(streams):
            if packet.dts is None:
                continue
            ticks = round(shift_s / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            packet.stream = copies[packet.stream.index]
            out.mux(packet)
    return path


def half_of(source: Path, path: Path) -> Path:
    """Write the first half of the bytes of `source`."""
    data = source.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def damage(source: Path, path: Path) -> Path:
    """Copy `source` with 300 bytes in its middle overwritten."""
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = b"\xff" * 300
    path.write_bytes(data)
    return path


def join_bytes(parts: Sequence[Path], path: Path) -> Path:
    """Write the files one after the other, as `cat` does."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def _interlaced(stream: Any) -> None:
    stream.codec_context.flags |= 0x20000000 | 0x00040000  # interlaced motion, interlaced DCT


def _plain_files(folder: Path) -> None:
    """Sound files of many codecs and containers: 30 frames, 10 a second."""
    gop = {"g": "10", "bf": "2"}
    write_numbers(folder / "h264.mp4", codec_options=gop)
    write_numbers(
        folder / "h264_open_gop.mp4", codec_options={"x264-params": "open-gop=1:keyint=8"}
    )
    write_numbers(folder / "h264_interlaced.mp4", codec_options={"x264-params": "interlaced=1"})
    write_numbers(folder / "h264_10bit.mkv", pix_fmt="yuv420p10le")
    write_numbers(folder / "h264.ts", codec_options=gop)
    write_numbers(folder / "h264_fragmented.mp4", container_options={"movflags": "frag_keyframe"})
    x265 = {"x265-params": "log-level=none:pools=1:keyint=10"}
    write_numbers(folder / "hevc.mp4", codec="libx265", codec_options=x265)
    write_numbers(folder / "vp9.webm", codec="libvpx-vp9", codec_options={"deadline": "realtime"})
    write_numbers(
        folder / "av1.mkv", codec="libsvtav1", codec_options={"preset": "10", "crf": "10"}
    )
    write_numbers(folder / "mpeg4.avi", codec="mpeg4")
    write_numbers(folder / "mpeg2_interlaced.mpg", codec="mpeg2video", fps=25, prepare=_interlaced)
    write_numbers(folder / "mjpeg.avi", codec="mjpeg", pix_fmt="yuvj420p")
    write_numbers(folder / "wmv2.wmv", codec="wmv2")
    write_numbers(folder / "flv1.flv", codec="flv")
    write_numbers(folder / "prores.mov", codec="prores_ks", pix_fmt="yuv422p10le")
    write_numbers(folder / "animation.gif", codec="gif", pix_fmt="rgb8")
    write_numbers(folder / "elementary.mp4", container_format="h264")


def _timed_and_shaped_files(folder: Path) -> None:
    """Files whose times, sizes or orientation are unusual."""
    steps = [40, 40, 200, 33, 500]
    times = np.cumsum([0, *(steps[i % 5] for i in range(29))]).tolist()
    write_numbers(folder / "vfr.mp4", times_ms=times)
    write_numbers(
        folder / "gap.mkv", times_ms=[i * 100 + (20_000 if i >= 15 else 0) for i in range(30)]
    )
    write_numbers(folder / "one_frame.mp4", count=1)
    plain = folder / "h264.mp4"
    as_is = {"avoid_negative_ts": "disabled"}
    shift_copy(plain, folder / "delayed_start.mp4", 1.5, as_is)
    wrap_s = 2**33 / 90_000  # a transport stream's clock starts again here
    copied = {"mpegts_copyts": "1"}
    shift_copy(plain, folder / "negative_start.ts", wrap_s - 1.0, as_is | copied)
    shift_copy(plain, folder / "times_missing.mkv", -1.0, as_is)
    shift_copy(plain, folder / "edit_list.mp4", -1.0, as_is)
    for turn in (90, 180, 270):
        write_numbers(folder / f"rotated_{turn}.mov", rotation=turn)
    write_numbers(folder / "odd_size.mkv", size=(161, 97), pix_fmt="yuv444p")
    write_numbers(folder / "anamorphic.mp4", prepare=_wide_pixels)
    ultra = {"preset": "ultrafast"}
    write_numbers(folder / "8k.mp4", count=3, size=(7680, 4320), codec_options=ultra)
    write_numbers(
        folder / "above_8k.mkv", codec="mjpeg", count=1, size=(8192, 6144), pix_fmt="yuvj420p"
    )
    small = write_numbers(folder / "part_small.ts", size=(80, 48), first=30)
    join_bytes([folder / "h264.ts", small], folder / "size_change.ts")
    join_bytes([folder / "h264.ts", folder / "h264.ts"], folder / "time_restart.ts")
    small.unlink()


def _wide_pixels(stream: Any) -> None:
    stream.codec_context.sample_aspect_ratio = Fraction(2, 1)


def _broken_files(folder: Path) -> None:
    """Files that are damaged, or are no videos."""
    plain = folder / "h264.mp4"
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("This is a text, not a video.\n" * 100)
    (folder / "playlist.mp4").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\nh264.ts\n#EXT-X-ENDLIST\n"
    )
    write_audio(folder / "audio_only.mp4")
    half_of(plain, folder / "half_index_at_end.mp4")
    front = write_numbers(folder / "front.mp4", container_options={"movflags": "faststart"})
    half_of(front, folder / "half_index_at_front.mp4")
    front.unlink()
    half_of(folder / "h264.ts", folder / "half.ts")
    half_of(folder / "vp9.webm", folder / "half.webm")
    damage(plain, folder / "damaged.mp4")


def make_odd_files(folder: Path) -> list[Path]:
    """Write all odd files into `folder` (about half a minute) and return them, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    _plain_files(folder)
    _timed_and_shaped_files(folder)
    _broken_files(folder)
    return sorted(folder.iterdir())
