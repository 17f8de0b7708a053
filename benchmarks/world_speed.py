"""How fast the synthetic world is made: videos, frames, questions and mp4 files a second, one core.

    python benchmarks/world_speed.py --out benchmarks/results/world_speed.json

Every pass uses videos not drawn before, so no cache of an earlier pass helps. CPU seconds of the
process are counted, because other work may share the machine; the median of the passes is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from marc_core.world import (
    WorldConfig,
    WorldVideo,
    archive_config,
    make_questions,
    render_frames,
    sample_video,
    write_mp4,
)

PASSES = 5
VIDEOS = 40


def rate(work: Callable[[int], int]) -> float:
    """Return units of work per CPU second: `work(pass)` returns how many it did."""
    rates = []
    for i in range(PASSES):
        start = time.process_time()
        done = work(i)
        rates.append(done / (time.process_time() - start))
    return round(statistics.median(rates), 1)


def drawn(videos: Sequence[WorldVideo], size: int) -> int:
    """Render every video at one frame a second and return the number of frames."""
    times = [np.arange(0.5, v.duration_s, 1.0).tolist() for v in videos]
    return sum(len(render_frames(v, t, size=size)) for v, t in zip(videos, times, strict=True))


def batch(i: int, offset: int) -> list[WorldVideo]:
    return [sample_video(offset + i * VIDEOS + k) for k in range(VIDEOS)]


def one_mp4(i: int, config: WorldConfig, folder: str) -> int:
    video = sample_video(90_000 + i, config)
    write_mp4(video, Path(folder) / "video.mp4")
    return round(video.duration_s)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the synthetic world.")
    parser.add_argument("--out", type=Path)
    result: dict[str, object] = {
        "hardware": f"{os.cpu_count()} cores {platform.machine()}, shared machine, one thread",
        "passes": PASSES,
        "unit": "per CPU second",
        "videos_sampled": rate(lambda i: len(batch(i, 10_000))),
        "questions": rate(lambda i: sum(len(make_questions(v, seed=0)) for v in batch(i, 20_000))),
    }
    for size in (56, 84, 112, 224):
        result[f"frames_at_1_fps_{size}px"] = rate(
            lambda i, size=size: drawn(batch(i, 30_000 + 1_000 * size), size)
        )
    result["training_videos_64_frames_at_most_112px_with_questions"] = rate(
        lambda i: sum(
            drawn([v], 112) > 0 and len(make_questions(v, seed=0)) > 0 for v in batch(i, 700_000)
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        result["mp4_video_seconds_224px_10fps"] = rate(
            lambda i: one_mp4(i, archive_config(), folder)
        )
    text = json.dumps(result, indent=1)
    print(text)
    given = parser.parse_args()
    if given.out is not None:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
