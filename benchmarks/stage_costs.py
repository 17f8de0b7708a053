"""What every stage of indexing costs: CPU seconds of one core per hour of video.

    python -m benchmarks.stage_costs [--seconds 40] [--size 1280x720] [--out FILE]

Clips that it renders itself: edited (a cut every 5 s), a fixed camera (noise, somebody walks by),
both at 30 and 60 frames a second, one with sentences and a sign, and a long one of a fixed camera.
The parts come one after another, each by itself; with --out each is written when it is done, and
the same command goes on with what is missing. One thread, scaled from the clip to an hour.

`limit`: decoding alone by PyAV in a process of its own (benchmarks.plain_decode). `of_limit`: the
limit as a share of decoding, shots, embedding, features and writing together: what a job does but
for Ray. `before`: shots with `events.quiet_range_grey=0` and nothing thinned. `small_frames`:
decoding with the small stream where frames of a still picture are drawn, and where all are scaled.
The long clip and `small_frames` are medians of rounds taken by turns; the rest is taken once.

SigLIP 2 base is timed by the vision tower of its shape with random weights, as no figure depends on
their values; `2 an event`: were so many frames of each event embedded instead of one a second.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.clips import hardware, render_clip, render_fixed_camera, repeated, with_speech
from benchmarks.plain_decode import limit_cpu_s
from marc_core.config import EventConfig, IndexConfig, load_config
from marc_core.embed import DualEncoder, load_encoder
from marc_core.estimate.cpu_time import children_cpu_s
from marc_core.estimate.sample import Stretch, length_s
from marc_core.estimate.stages import Stages
from marc_core.events import ShotDetector, ThinnedDetector, transitions
from marc_core.indexing import IndexedVideo
from marc_core.memory import MemoryStore
from marc_core.models.vision_tower import VisionTower
from marc_core.types import FrameChunk
from marc_core.video import decode
from marc_core.video.decode import make_clock, shot_scaler, timed_frames
from marc_core.video.pyav import open_video
from marc_core.video.source import local_source
from marc_core.video.still import EVERY, with_small

SIGLIP_FRAMES = 8
OFF = EventConfig(quiet_range_grey=0.0, thin_above_fps=1000.0)
SIGN = "PLATFORM 12 TO THE HARBOUR"
NO_TEXT = ("text.speech=off", "text.writing=off", "text.captions=off")


@dataclass(frozen=True, kw_only=True)
class Models:
    """What indexing needs beside a clip. `config` makes no texts, `texts` is the default. rounds:
    of figures that are medians."""

    config: IndexConfig
    texts: IndexConfig
    encoder: DualEncoder
    tower: VisionTower
    rounds: int

    def stages(self, *, texts: bool = False) -> Stages:
        """Return the stages, new."""
        return Stages(self.texts if texts else self.config, self.encoder, self.tower)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--size", default="1280x720", help="WIDTHxHEIGHT of the clips")
    parser.add_argument("--fixed-minutes", type=int, default=10, help="of the long clip")
    parser.add_argument("--rounds", type=int, default=3, help="of figures that are medians")
    parser.add_argument("--folder", type=Path, help="keep clips here")
    parser.add_argument("--out", type=Path, help="the JSON; what it has is not measured again")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        clips = rendered(args.folder or Path(scratch), args)
        with_texts, config = (
            load_config(
                IndexConfig, preset="tiny", overrides=[f"memory.uri='{scratch}/m'", *settings]
            )
            for settings in ((), NO_TEXT)
        )
        models = Models(
            config=config,
            texts=with_texts,
            encoder=load_encoder(config.encoder),
            tower=VisionTower(config.student),
            rounds=args.rounds,
        )
        print(json.dumps(measured(clips, models, args), indent=1))


def rendered(folder: Path, args: Any) -> dict[str, Path]:
    """Return the clips by name; `long` is a fixed camera's, one minute repeated."""
    width, height = (int(n) for n in args.size.split("x"))
    seconds, minutes = args.seconds, args.fixed_minutes
    common: dict[str, Any] = {"seconds": seconds, "size": (width, height)}
    minute = render_fixed_camera(folder / "minute.mp4", **common | {"seconds": 60.0})
    signs = render_clip(folder / "signs.mp4", **common, sign=SIGN)
    return {
        "edited": render_clip(folder / "edited30.mp4", fps=30, **common),
        "edited, 60 fps": render_clip(folder / "edited60.mp4", fps=60, **common),
        "fixed camera": render_fixed_camera(folder / "fixed30.mp4", fps=30, **common),
        "fixed camera, 60 fps": render_fixed_camera(folder / "fixed60.mp4", fps=60, **common),
        "sentences and a sign": with_speech(signs, folder / "spoken.mp4", seconds=seconds),
        "long": repeated(minute, folder / f"{minutes}-minutes.mp4", times=minutes),
    }


def measured(clips: Mapping[str, Path], models: Models, args: Any) -> dict[str, Any]:
    """Return the whole report; write what is known on the way."""
    about = {
        "hardware": hardware(),
        "clips": f"{args.seconds:g} s each, {args.size}, h264, {args.rounds} rounds",
        "long": f"{args.fixed_minutes} min",
    }
    known = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    if any(known.get(name, value) != value for name, value in about.items()):
        raise SystemExit(f"{args.out} holds other clips or another machine's figures; remove it.")
    report: dict[str, Any] = about | known
    for part, name, measure in _parts(clips, models):
        if name not in report.setdefault(part, {}):
            report[part][name] = measure()
            sys.stderr.write(f"{part}, {name}: {json.dumps(report[part][name])}\n")
            if args.out:
                args.out.write_text(json.dumps(report | _derived(report), indent=1) + "\n")
    return report | _derived(report)


def _parts(
    clips: Mapping[str, Path], models: Models
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Yield part of the report, name in it, and what measures it."""
    yield "fixed_camera", "long", lambda: whole_against_limit(clips["long"], models)
    for name in ("edited", "fixed camera"):
        yield "small_frames", name, partial(small_frames_both_ways, clips[name], models)
    yield "siglip2_base", "frame", partial(siglip_costs, models.rounds)
    for name, path in clips.items():
        if name != "long":
            yield "cpu_s_per_hour", name, partial(clip_costs, path, models)
    for name in ("sentences and a sign", "fixed camera", "edited"):
        yield "texts_cpu_s_per_hour", name, partial(text_costs, clips[name], models)


def _derived(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what follows from the rows that are there."""
    rows, frame = report.get("cpu_s_per_hour", {}), report.get("siglip2_base", {}).get("frame")
    pairs = {name: (rows.get(f"{name}, 60 fps"), row) for name, row in rows.items()}
    derived: dict[str, Any] = {
        "sixty_against_thirty_fps": {
            name: against_thirty(*pair) for name, pair in pairs.items() if all(pair)
        }
    }
    if frame:
        frame_s = frame["cpu_s_per_frame"]
        derived["siglip2_base_cpu_s_per_hour"] = {"one a second": round(3600 * frame_s)} | {
            f"{k} an event, {name}": round(k * row["events_per_hour"] * frame_s)
            for name, row in rows.items()
            for k in (1, 2, 3)
        }
    return derived


def clip_costs(path: Path, models: Models) -> dict[str, float]:
    """Return CPU seconds an hour of every stage on one clip, and what was found in it."""
    with closing(models.stages()) as stages:
        rows = stages.index(Stretch(str(path)))
        costs = stages.costs()
    config, encoder, hours = models.config, models.encoder, costs.video_s / 3600
    with decode(path, config.video) as chunks:
        parts, fps = list(chunks), chunks.info.fps
    now_s, before_s, same = shots_both_ways(parts, fps, models)
    sampled = np.concatenate([chunk.sampled_frames for chunk in parts if len(chunk.sampled_index)])
    embed_s = _timed(lambda: encoder.encode_images(sampled))
    seconds = {
        "limit": limit_cpu_s(path),
        "decode": costs.decode_s,
        "shots": now_s,
        "shots_before": before_s,
        "embed_tiny": embed_s,
        "features_tiny": max(costs.encode_s - embed_s, 0.0),
        "write": write_cpu_s(rows, models),
    }
    hourly = {name: round(value / hours, 1) for name, value in seconds.items()}
    whole = sum(hourly[n] for n in ("decode", "shots", "embed_tiny", "features_tiny", "write"))
    before = whole - hourly["shots"] + hourly["shots_before"]
    return hourly | {
        "all": round(whole, 1),
        "of_limit": round(hourly["limit"] / whole, 3),
        "of_limit_before": round(hourly["limit"] / before, 3),
        "before_against_now": round(before / whole, 3),
        "same_cuts": same,
        "events_per_hour": round(rows.events.num_rows / hours),
    }


def shots_both_ways(
    parts: Sequence[FrameChunk], fps: float | None, models: Models
) -> tuple[float, float, bool]:
    """Return CPU seconds of the shot detector as it is and as it was, and whether both find the
    same cuts to the frame."""
    config, times_s = models.config.events, np.concatenate([chunk.times_s for chunk in parts])
    ways = {"now": ShotDetector(config), "before": ShotDetector(OFF)}
    seconds: dict[str, float] = {}
    cuts: dict[str, list[int]] = {}
    for name, detector in ways.items():
        started = time.process_time()
        thinned = ThinnedDetector(detector, fps)
        for chunk in parts:
            thinned.push(chunk.shot_frames, chunk.times_s)
        scores, dark = thinned.finish_with_dark()
        seconds[name] = time.process_time() - started
        found = transitions(scores, config.shot_threshold, times_s=times_s, dark_F=dark)
        cuts[name] = [t.boundary for t in found]
    return seconds["now"], seconds["before"], cuts["now"] == cuts["before"]


def small_frames_both_ways(path: Path, models: Models) -> dict[str, float]:
    """Return CPU seconds of decoding with every frame at 48 x 27: as it is, and with all scaled."""
    spent: dict[int, list[float]] = {EVERY: [], 1: []}
    config = models.config.video
    for _ in range(models.rounds):
        for every, seconds in spent.items():
            started = time.process_time()
            with open_video(path, config) as video:
                shots = shot_scaler(video)
                frames = timed_frames(video, make_clock(video), config, video.frames(), shots=shots)
                for _frame in with_small(frames, every):
                    pass
            seconds.append(time.process_time() - started)
    now_s, all_s = median(spent[EVERY]), median(spent[1])
    return {
        "cpu_s": round(now_s, 2),
        "cpu_s_all_scaled": round(all_s, 2),
        "ratio": round(all_s / now_s, 3),
    }


def write_cpu_s(rows: IndexedVideo, models: Models) -> float:
    """Return CPU seconds of publishing a video's rows in a memory that has some."""
    store = MemoryStore.open(
        models.config.memory,
        embedding_dim=rows.events.schema.field("embedding").type.list_size,
        encoder_fingerprint=models.encoder.fingerprint,
        create=True,
    )
    return median(
        _timed(lambda: store.publish(rows.videos, rows.events, rows.features, rows.texts))
        for _ in range(models.rounds)
    )


def whole_against_limit(path: Path, models: Models) -> dict[str, Any]:
    """Return CPU seconds of decoding a clip alone, of indexing and publishing it, and of the same
    with the text stages' code called while they are off; by turns."""
    alone: list[float] = []
    whole: list[float] = []
    with_off: list[float] = []
    with closing(models.stages()) as stages:
        for _ in range(models.rounds):
            alone.append(limit_cpu_s(path))
            for spent, texts_off in ((whole, False), (with_off, True)):
                started_s = _all_cpu_s()
                rows = stages.index(Stretch(str(path)))
                if texts_off:
                    stages.read(Stretch(str(path)), rows)
                spent.append(_all_cpu_s() - started_s + write_cpu_s(rows, models))
    seconds = length_s(local_source(str(path)), {})
    assert seconds
    return {
        "seconds": round(seconds),
        "mbit_per_s": round(path.stat().st_size * 8e-6 / seconds, 2),
        "limit_cpu_s": [round(s, 2) for s in alone],
        "indexing_cpu_s": [round(s, 2) for s in whole],
        "indexing_with_texts_off_cpu_s": [round(s, 2) for s in with_off],
        "of_limit": round(median(alone) / median(whole), 3),
        "texts_off_against_without": round(median(with_off) / median(whole), 3),
    }


def against_thirty(sixty: Mapping[str, float], thirty: Mapping[str, float]) -> dict[str, float]:
    """Return how much more 60 frames a second cost than 30, beyond decoding."""
    names = ("shots", "embed_tiny", "features_tiny", "write")
    beyond = [sum(row[n] for n in names) + row["decode"] - row["limit"] for row in (sixty, thirty)]
    return {
        "shots": round(sixty["shots"] / thirty["shots"], 2),
        "all_beyond_decoding": round(beyond[0] / beyond[1], 2),
        "shots_before": round(sixty["shots_before"] / thirty["shots_before"], 2),
    }


def text_costs(path: Path, models: Models) -> dict[str, float]:
    """Return CPU seconds an hour of each text stage on a clip."""
    with closing(models.stages(texts=True)) as stages:
        rows = stages.index(Stretch(str(path)))
        stages.read(Stretch(str(path)), rows)
        costs = stages.costs()
    assert not costs.left_out, costs.left_out
    hours = costs.video_s / 3600
    return {kind: round(seconds / hours, 1) for kind, seconds in costs.texts_s.items()}


def siglip_costs(rounds: int) -> dict[str, Any]:
    """Return CPU seconds a frame of a vision tower of SigLIP 2 base's shape."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    with torch.inference_mode():
        tower = SiglipVisionModel(SiglipVisionConfig()).eval()
        batch = torch.rand(SIGLIP_FRAMES, 3, 224, 224)
        tower(batch)
        times = [_timed(lambda: tower(batch)) for _ in range(rounds)]
    return {
        "weights": "random, in the shape of google/siglip2-base-patch16-224",
        "cpu_s_per_frame": round(median(times) / SIGLIP_FRAMES, 3),
    }


def _timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _all_cpu_s() -> float:
    return time.process_time() + children_cpu_s()


if __name__ == "__main__":
    main()
