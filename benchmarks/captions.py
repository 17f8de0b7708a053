"""What the tiny preset's captions are worth: against what the world knows of every scene.

    python -m benchmarks.captions [--videos N]

place: the scene's place is in the caption. told: the caption says what one of its objects does, all
of it right (colour, shape, action, direction, speed). CPU seconds of one thread an event, model
already loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.clips import hardware
from marc_core.config import MethodConfig, load_config
from marc_core.text.captioning import make_stage
from marc_core.text.stage import Span
from marc_core.world import WorldVideo, archive_config, sample_video, write_mp4
from marc_core.world.phrases import clause

FIRST_SEED = 60_000


def spans_of(video: WorldVideo) -> list[Span]:
    """Return the scenes as events, with a frame for every second."""
    return [
        Span(
            event_id=str(scene.index),
            start_s=scene.start_s,
            end_s=scene.end_s,
            frame_times_s=tuple(np.arange(np.ceil(scene.start_s), scene.end_s).tolist()),
        )
        for scene in video.events
        if np.ceil(scene.start_s) < scene.end_s
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=12)
    count = parser.parse_args().videos
    torch.set_num_threads(1)
    config = load_config(MethodConfig, preset="tiny")
    stage = make_stage(config)
    places, told, seconds, scenes = 0, 0, [], 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            video, path = sample_video(seed, archive_config()), Path(folder) / f"{seed}.mp4"
            write_mp4(video, path)
            spans = spans_of(video)
            started = time.process_time()
            lines = {line.start_s: line.text for line in stage.texts(str(path), spans).lines}
            seconds.append((time.process_time() - started) / len(spans))
            for span in spans:
                scene = video.events[int(span.event_id)]
                caption = lines.get(span.start_s, "")
                scenes += 1
                places += scene.background in caption.split("; ")
                told += any(clause(scene, thing) in caption for thing in scene.objects)
    stage.close()
    report = {
        "hardware": hardware(),
        "prompts": list(config.text.caption_prompts),
        "videos": count,
        "scenes": scenes,
        "place": round(places / scenes, 3),
        "told": round(told / scenes, 3),
        "cpu_s_an_event": round(float(np.median(seconds[1:])), 3),
    }
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
