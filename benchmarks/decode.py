"""Cost of the dual decode against plain decoding by the ffmpeg program, one thread each.

python -m benchmarks.decode [--seconds 20] [--repeats 5] > benchmarks/results/decode.json

CPU seconds (user + system, children included) of whole processes' work on clips rendered here;
the variants run interleaved, the median of the ratios of each round is reported. Ratio = ffmpeg /
ours: 1.0 means that two scaled streams cost no more than decoding alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import av

from benchmarks.clips import hardware, render_clip
from marc_core.config import VideoConfig
from marc_core.video import IsolatedDecoder, decode

CLIPS = {
    "h264_720p25": ("libx264", {"preset": "veryfast", "b": "2500k"}),
    "hevc_720p25": (
        "libx265",
        {"preset": "fast", "b": "1500k", "x265-params": "log-level=none"},
    ),
}
TARGETS = {"h264_720p25": 0.9, "hevc_720p25": 1.0}


def cpu_s(work: Callable[[], None]) -> float:
    """Return the CPU seconds of `work` in this process and in children that it waited for."""
    before = _used_s()
    work()
    return _used_s() - before


def _used_s() -> float:
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    uses = [resource.getrusage(w) for w in who]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def by_ffmpeg(path: Path) -> None:
    """Decode without output: the limit."""
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(path), "-f", "null", "-"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def by_pyav(path: Path) -> None:
    """Decode by PyAV without any conversion, for comparison."""
    with av.open(str(path)) as media:
        stream = media.streams.video[0]
        stream.thread_count = 1
        for _ in media.decode(stream):
            pass


def in_process(path: Path) -> None:
    """Dual decode in this process."""
    with decode(path, VideoConfig()) as decoding:
        for _ in decoding:
            pass


def isolated(path: Path) -> None:
    """Dual decode in a child, its start and the pipe included."""
    with IsolatedDecoder(VideoConfig()) as decoder, decoder.open(path) as stream:
        for _ in stream:
            pass


def isolated_warm(path: Path) -> None:
    """Dual decode of `WARM_VIDEOS` videos by one child; its start is shared among them."""
    with IsolatedDecoder(VideoConfig()) as decoder:
        for _ in range(WARM_VIDEOS):
            with decoder.open(path) as stream:
                for _ in stream:
                    pass


def by_decord(path: Path) -> None:
    """Dual decode by the decord backend."""
    with decode(path, VideoConfig(backend="decord")) as decoding:
        for _ in decoding:
            pass
    assert decoding.summary.backend == "decord", decoding.summary.backend_reason


WARM_VIDEOS = 5

VARIANTS = {
    "pyav_plain": by_pyav,
    "dual_in_process": in_process,
    "dual_isolated": isolated,
    "dual_isolated_warm": isolated_warm,
    "dual_decord": by_decord,
}


def measure(path: Path, repeats: int) -> dict[str, object]:
    """Return median ratios and CPU seconds of all variants on one clip."""
    limits, times = [], {name: [] for name in VARIANTS}
    for _ in range(repeats):
        limits.append(cpu_s(lambda: by_ffmpeg(path)))
        for name, variant in VARIANTS.items():
            videos = WARM_VIDEOS if variant is isolated_warm else 1
            times[name].append(cpu_s(lambda variant=variant: variant(path)) / videos)
    ratios = {
        name: round(statistics.median(a / b for a, b in zip(limits, spent, strict=True)), 3)
        for name, spent in times.items()
    }
    seconds = {name: round(statistics.median(spent), 3) for name, spent in times.items()}
    return {
        "ffmpeg_cpu_s": round(statistics.median(limits), 3),
        "cpu_s": seconds,
        "ratio_to_ffmpeg": ratios,
        "size_bytes": path.stat().st_size,
    }


def main() -> None:
    """Run and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="keep the rendered clips here and use them again")
    args = parser.parse_args()
    clips = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or temporary
        for name, (codec, options) in CLIPS.items():
            path = Path(folder) / f"{name}.mp4"
            render_clip(path, seconds=args.seconds, codec=codec, options=options)
            clips[name] = {"target": TARGETS[name], **measure(path, args.repeats)}
    version = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
    result = {
        "benchmark": "decode",
        "hardware": hardware(),
        "ffmpeg": version.stdout.split()[2],
        "pyav": av.__version__,
        "seconds_of_video": args.seconds,
        "repeats": args.repeats,
        "clips": clips,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
