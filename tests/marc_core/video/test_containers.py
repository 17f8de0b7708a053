"""Patterns and demuxers cover every container that the installed FFmpeg can write video into."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.odd_media import write_numbers
from marc_core.config import IndexConfig, VideoConfig
from marc_core.filenames import VIDEO_ENDINGS, matcher
from marc_core.video import decode
from marc_core.video.pyav import FORMATS

CODECS = {
    "3g2": "libx264", "3gp": "libx264", "apng": "apng", "asf": "mpeg4", "avi": "mpeg4",
    "dv": "dvvideo", "f4v": "libx264", "flv": "flv", "gif": "gif", "h261": "h261", "h263": "h263",
    "h264": "libx264", "hevc": "libx265", "ismv": "libx264", "ivf": "libvpx", "m4v": "mpeg4",
    "dnxhd": "dnxhd", "matroska": "libx264", "mjpeg": "mjpeg", "mov": "libx264", "mp4": "libx264",
    "mpeg": "mpeg2video", "mpeg1video": "mpeg1video", "mpeg2video": "mpeg2video",
    "mpegts": "libx264", "mxf": "mpeg2video", "nut": "mpeg4", "obu": "libsvtav1", "ogv": "libvpx",
    "rm": "rv10", "roq": "roqvideo",
    "swf": "flv", "vob": "mpeg2video", "webm": "libvpx", "wtv": "mpeg2video",
    "yuv4mpegpipe": "rawvideo",
}  # fmt: skip
"""Muxer: an encoder for it."""

SOUND = frozenset({"m4a", "m4b", "isma", "wma", "ra"})
"""Endings of these containers that are given to sound."""


STILLS = frozenset({"avif", "heic", "heif", "mpo"})
MANIFESTS_AND_REST = frozenset({"ism", "mka", "mks", "ogg", "avs", "ty+"})
"""Endings that demuxers register and that are given to lists of files, sound, subtitles, or (avs)
far more often to scripts."""

UNREGISTERED = {
    "asf": {"asf", "wmv", "wm", "dvr-ms"}, "ogg": {"ogv", "ogm"}, "rm": {"rm", "rmvb"},
    "h263": {"h263"},
    "mpeg": {"mpg", "mpeg", "mpe", "vob", "evo", "dvd", "mod"}, "apng": {"apng"}, "ivf": {"ivf"},
    "mpegts": {"ts", "m2ts", "mts", "m2t", "tp", "trp", "tod"}, "mpegvideo": {"m1v", "m2v", "mpv"},
    "mxf": {"mxf"}, "wtv": {"wtv"}, "gxf": {"gxf"}, "swf": {"swf"}, "roq": {"roq"}, "nsv": {"nsv"},
    "dnxhd": {"dnxhd", "dnxhr"}, "dirac": {"drc", "vc2"}, "nuv": {"nuv"}, "pva": {"pva"},
    "obu": {"av1"}, "cavsvideo": {"cavs"}, "mov": {"qt", "m4v", "3gpp", "insv", "360"},
    "avi": {"divx", "amv"},
}  # fmt: skip
"""Demuxer: further endings that people give to its files."""


def _endings(demuxer: str) -> set[str]:
    registered = av.format.ContainerFormat(demuxer, "r").extensions
    rest = SOUND | STILLS | MANIFESTS_AND_REST
    return (registered - rest) | UNREGISTERED.get(demuxer, set())


@pytest.mark.parametrize("demuxer", FORMATS)
def test_every_demuxer_s_endings_are_taken(demuxer: str):
    taken = matcher(IndexConfig().patterns)
    endings = _endings(demuxer)
    assert endings, "a demuxer that opens files has an ending"
    assert {ending for ending in endings if not taken(f"clip.{ending}")} == set()


def test_every_ending_has_a_demuxer():
    assert set(VIDEO_ENDINGS) == set().union(*map(_endings, FORMATS))


def _pairs() -> list[tuple[str, str]]:
    further = [("obu", "av1"), ("mov", "mj2"), ("h264", "h26l")]
    return further + [
        (muxer, ending)
        for muxer in CODECS
        for ending in sorted(av.format.ContainerFormat(muxer, "w").extensions - SOUND)
    ]


def write(path: Path, muxer: str, codec: str) -> Path:
    """Write 12 frames that grow brighter."""
    size = {"dvvideo": (720, 576), "roqvideo": (256, 256)}.get(codec, (352, 288))
    options = {"profile": "dnxhr_lb"} if codec == "dnxhd" else {}
    formats = [f.name for f in av.codec.Codec(codec, "w").video_formats or ()]
    pix_fmt = "yuv420p" if "yuv420p" in formats or not formats else formats[0]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else pix_fmt
    with av.open(str(path), "w", format=muxer) as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        for i in range(12):
            grey = np.full((size[1], size[0], 3), 40 + 15 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(("muxer", "ending"), _pairs())
def test_a_container_is_listed_and_decoded(tmp_path: Path, muxer: str, ending: str):
    assert matcher(IndexConfig().patterns)(f"CLIP.{ending.upper()}")
    path = write(tmp_path / f"clip.{ending}", muxer, CODECS[muxer])
    with decode(path, VideoConfig()) as decoding:
        shots = np.concatenate([chunk.shot_frames for chunk in decoding])
    assert len(shots) == 12
    brightness = shots.mean((1, 2, 3))
    assert brightness[-1] - brightness[0] > 120


RAW = {
    "h264": ("libx264", {"bf": "0"}),
    "h264 reordered": ("libx264", {"bf": "2"}),
    "h264 interlaced": ("libx264", {"x264-params": "interlaced=1"}),
    "hevc": ("libx265", {"x265-params": "log-level=none:pools=1"}),
    "mpeg2video": ("mpeg2video", {}),
    "m4v": ("mpeg4", {}),
}


@pytest.mark.parametrize("fps", [25, 30, 50])
@pytest.mark.parametrize("name", RAW)
def test_a_raw_stream_runs_at_the_rate_that_it_says(tmp_path: Path, name: str, fps: int):
    codec, options = RAW[name]
    path = tmp_path / "clip.bin"
    write_numbers(
        path, codec=codec, fps=fps, container_format=name.split()[0], codec_options=options
    )
    with decode(path, VideoConfig()) as decoding:
        times_s = np.concatenate([chunk.times_s for chunk in decoding])
    summary = decoding.summary
    np.testing.assert_allclose(times_s - times_s[0], np.arange(30) / fps, atol=1e-5)
    assert summary.info.fps == pytest.approx(fps)
    assert summary.end_s - summary.start_s == pytest.approx(30 / fps, abs=1e-5)
