"""Small training sets for tests: questions of the synthetic world, with what the teacher reads."""

from __future__ import annotations

from pathlib import Path

import torch

from marc_core.config import load_config
from marc_core.embed import load_encoder
from marc_core.train_set.config import TrainSetConfig
from marc_core.train_set.rows import RowMaker
from marc_core.train_set.shards import SetShards, VideoRows
from marc_core.train_set.sources import WorldOpener, WorldSource

SHORT = "world={min_scenes: 3, max_scenes: 3, scene_lengths_s: [2.2, 2.6]}"


def write_train_set(folder: Path, questions: int) -> Path:
    """Write questions about short world videos as `marc train-set` does, without Ray."""
    torch.set_num_threads(1)
    config = load_config(
        TrainSetConfig,
        preset="tiny",
        overrides=[
            f"output='{folder}'", "store_teacher=true", "budgets=[9]", "questions_per_type=1",
            "event_facts=false", SHORT,
        ],
    )  # fmt: skip
    maker = RowMaker(config, load_encoder(config.encoder))
    source, opener = WorldSource(config), WorldOpener(config)
    videos: list[VideoRows] = []
    left = questions
    for path in source.paths():
        rows = maker.rows(opener.load(path), source.asked(path)[:left])
        videos.append(VideoRows(path, tuple(rows)))
        left -= len(rows)
        if not left:
            break
    SetShards(config.output, "set").write("00000", videos)
    return folder
