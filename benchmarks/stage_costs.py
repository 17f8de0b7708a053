"""What every stage of indexing costs: CPU seconds of one core per hour of video.

    python -m benchmarks.stage_costs [--seconds 40] [--size 1280x720] [--out FILE]

Three clips that it renders itself: edited (a cut every 5 s), a fixed camera (noise, somebody walks
by) and 60 frames a second. Every figure is from this one run, one thread, scaled from the clip to
an hour; a figure under load is still CPU seconds. `limit` is decoding alone by PyAV, one thread;
`of_limit` the limit as a share of decoding, shots, embedding, features and writing together.
`before`: shots with `events.quiet_range_grey=0` and nothing thinned, on the same frames, by turns.

SigLIP 2 base is timed by the vision tower of its shape with random weights, as no figure depends on
their values; `per_event`: were one frame of each event embedded instead of one a second.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch

from benchmarks.clips import hardware, render_clip, render_fixed_camera
from marc_core.config import EventConfig, IndexConfig, load_config
from marc_core.embed import DualEncoder, load_encoder
from marc_core.estimate import Stages
from marc_core.events import ShotDetector, ThinnedDetector, transitions
from marc_core.indexing import IndexedVideo
from marc_core.memory import MemoryStore
from marc_core.models.vision_tower import VisionTower
from marc_core.types import FrameChunk
from marc_core.video import decode

ROUNDS, SIGLIP_FRAMES = 3, 8
OFF = EventConfig(quiet_range_grey=0.0, thin_above_fps=1000.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--size", default="1280x720", help="WIDTHxHEIGHT of the clips")
    parser.add_argument("--folder", type=Path, help="keep clips here")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        clips = rendered(args.folder or Path(scratch), args.seconds, args.size)
        config = load_config(IndexConfig, preset="tiny", overrides=[f"memory.uri='{scratch}/m'"])
        rows = {name: clip_costs(path, config) for name, path in clips.items()}
    report = {
        "hardware": hardware(),
        "clips": f"{args.seconds:g} s each, {args.size}, h264",
        "cpu_s_per_hour": rows,
        "siglip2_base": siglip_costs({n: r["events_per_hour"] for n, r in rows.items()}),
    }
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def rendered(folder: Path, seconds: float, size: str) -> dict[str, Path]:
    """Return the clips by name."""
    width, height = (int(n) for n in size.split("x"))
    common = {"seconds": seconds, "size": (width, height)}
    return {
        "edited": render_clip(folder / "edited.mp4", **common),
        "fixed camera": render_fixed_camera(folder / "fixed.mp4", **common),
        "60 fps": render_clip(folder / "dense.mp4", fps=60, **common),
    }


def clip_costs(path: Path, config: IndexConfig) -> dict[str, float]:
    """Return CPU seconds an hour of every stage on one clip, and what was found in it."""
    encoder, tower = load_encoder(config.encoder), VisionTower(config.student)
    stages = Stages(config, encoder, tower)
    rows = stages.index(str(path))
    costs = stages.costs()
    hours = costs.video_s / 3600
    with decode(path, config.video) as chunks:
        parts, fps = list(chunks), chunks.info.fps
    now_s, before_s, same = shots_both_ways(parts, fps, config.events)
    sampled = np.concatenate([chunk.sampled_frames for chunk in parts])
    embed_s = median(_timed(lambda: encoder.encode_images(sampled)) for _ in range(ROUNDS))
    events = rows.events.num_rows
    seconds = {
        "limit": median(limit_cpu_s(path) for _ in range(ROUNDS)),
        "decode": costs.decode_s,
        "shots": now_s,
        "shots_before": before_s,
        "embed_tiny": embed_s,
        "features_tiny": costs.encode_s - embed_s,
        "write": write_cpu_s(rows, config, encoder, path.stem),
    }
    hourly = {name: round(value / hours, 1) for name, value in seconds.items()}
    whole = sum(hourly[n] for n in ("decode", "shots", "embed_tiny", "features_tiny", "write"))
    before = whole - hourly["shots"] + hourly["shots_before"]
    return hourly | {
        "all": round(whole, 1),
        "of_limit": round(hourly["limit"] / whole, 3),
        "of_limit_before": round(hourly["limit"] / before, 3),
        "shots_ratio": round(before_s / now_s, 2),
        "same_cuts": same,
        "events_per_hour": round(events / hours),
    }


def shots_both_ways(
    parts: Sequence[FrameChunk], fps: float | None, config: EventConfig
) -> tuple[float, float, bool]:
    """Return CPU seconds of the shot detector as it is and as it was, medians by turns, and
    whether both find the same cuts to the frame."""
    times_s = np.concatenate([chunk.times_s for chunk in parts])
    ways = {"now": ShotDetector(config), "before": ShotDetector(OFF)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cuts: dict[str, list[int]] = {}
    for _ in range(ROUNDS):
        for name, detector in ways.items():
            started = time.process_time()
            thinned = ThinnedDetector(detector, fps)
            for chunk in parts:
                thinned.push(chunk.shot_frames, chunk.times_s)
            scores, dark = thinned.finish_with_dark()
            seconds[name].append(time.process_time() - started)
            found = transitions(scores, config.shot_threshold, times_s=times_s, dark_F=dark)
            cuts[name] = [t.boundary for t in found]
    return median(seconds["now"]), median(seconds["before"]), cuts["now"] == cuts["before"]


def limit_cpu_s(path: Path) -> float:
    """Return CPU seconds of decoding a file and nothing else, one thread."""
    started = time.process_time()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for _ in container.decode(stream):
            pass
    return time.process_time() - started


def write_cpu_s(rows: IndexedVideo, config: IndexConfig, encoder: DualEncoder, name: str) -> float:
    """Return CPU seconds of publishing a video's rows in a memory that has some."""
    store = MemoryStore.open(
        config.memory,
        embedding_dim=rows.events.schema.field("embedding").type.list_size,
        encoder_fingerprint=encoder.fingerprint,
        create=True,
    )
    return median(
        _timed(lambda: store.publish(rows.videos, rows.events, rows.features, rows.texts))
        for _ in range(ROUNDS)
    )


def siglip_costs(events_per_hour: dict[str, float]) -> dict[str, object]:
    """Return CPU seconds a frame of a vision tower of SigLIP 2 base's shape, and an hour's."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    with torch.inference_mode():
        tower = SiglipVisionModel(SiglipVisionConfig()).eval()
        batch = torch.rand(SIGLIP_FRAMES, 3, 224, 224)
        tower(batch)
        times = [_timed(lambda: tower(batch)) for _ in range(ROUNDS)]
    frame_s = median(times) / SIGLIP_FRAMES
    return {
        "cpu_s_per_frame": round(frame_s, 3),
        "one_a_second": round(3600 * frame_s),
        "per_event": {name: round(n * frame_s) for name, n in events_per_hour.items()},
    }


def _timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
