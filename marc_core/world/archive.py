"""An archive on disk: mp4 files and one JSON file with the ground truth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marc_core.errors import ConfigError
from marc_core.world.config import WorldConfig, archive_config
from marc_core.world.describe import describe_event
from marc_core.world.mp4 import write_mp4
from marc_core.world.questions import make_questions
from marc_core.world.scenes import sample_video
from marc_core.world.types import Question, WorldVideo

GROUND_TRUTH_NAME = "ground_truth.json"


@dataclass(frozen=True, kw_only=True)
class ArchiveItem:
    """One video of an archive: its file, its ground truth and the questions about it."""

    path: Path
    video: WorldVideo
    questions: tuple[Question, ...]


def write_archive(
    folder: str | Path,
    num_videos: int,
    seed: int,
    config: WorldConfig | None = None,
    *,
    per_type: int = 1,
) -> list[ArchiveItem]:
    """Write `num_videos` mp4 files and `ground_truth.json` into `folder`; return what was written.

    Video i has the seed `seed + i`. Names in questions fit one event of the whole archive, so that
    they can be asked of all videos at once. Files that exist are written again, the same.
    Raises ConfigError when `num_videos` is below 1.
    """
    if num_videos < 1:
        raise ConfigError(f"num_videos must be 1 or more. Got {num_videos}.")
    config = config or archive_config()
    folder = Path(folder)
    videos = [sample_video(seed + i, config) for i in range(num_videos)]
    items = []
    for video in videos:
        rivals = [e for v in videos if v is not video for e in v.events]
        questions = make_questions(video, seed=seed, per_type=per_type, rivals=rivals)
        path = write_mp4(video, folder / f"{video.name}.mp4")
        items.append(ArchiveItem(path=path, video=video, questions=questions))
    truth = {"seed": seed, "config": asdict(config), "videos": [item_to_dict(i) for i in items]}
    partial = folder / f".{GROUND_TRUTH_NAME}.part"
    partial.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / GROUND_TRUTH_NAME)
    return items


def item_to_dict(item: ArchiveItem) -> dict[str, Any]:
    """Return an archive item as plain values, the form of `ground_truth.json`."""
    video = item.video
    return {
        "file": item.path.name,
        "seed": video.seed,
        "fps": video.fps,
        "duration_s": video.duration_s,
        "events": [{**asdict(e), "caption": describe_event(e)} for e in video.events],
        "transitions": [asdict(t) for t in video.transitions],
        "questions": [asdict(q) for q in item.questions],
    }
