"""The synthetic world as a benchmark: questions and footage from seeds, no files.

Held out: its salt is used by no training run (see docs/evaluation.md), so that no video of it was
ever trained on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from marc_core.config import fingerprint
from marc_core.evaluation.datasets.sample import NAMES_ONE_EVENT, BenchmarkError, Sample
from marc_core.evaluation.variants.footage import Footage
from marc_core.schemas import make_video_id
from marc_core.scoring.options import ProblemType, with_letters
from marc_core.world import (
    QUESTION_TYPES,
    Question,
    WorldConfig,
    WorldVideo,
    make_questions,
    render_frames,
    sample_video,
    write_mp4,
)

PREFIX = "world:"

_KINDS: dict[Literal["multiple_choice", "open", "numerical"], ProblemType] = {
    "multiple_choice": "multiple choice",
    "open": "free-form",
    "numerical": "numerical",
}


def world_samples(
    config: WorldConfig,
    *,
    questions: int,
    per_type: int,
    seed: int,
    folder: str = "",
    tasks: Sequence[str] = (),
) -> list[Sample]:
    """Return the first `questions` questions of the videos `seed`, `seed` + 1, ...

    Each video is asked up to `per_type` questions of every type; 0 questions means 300. With a
    `folder` the samples name mp4 files in it, else the videos' seeds. tasks: only these types.
    Raises BenchmarkError for a type that the world does not ask.
    """
    known = [t.name for t in QUESTION_TYPES]
    if unknown := sorted(set(tasks) - set(known)):
        raise BenchmarkError(
            f"only_tasks must name types of the world's questions: {', '.join(known)}. "
            f"Got '{unknown[0]}'."
        )
    samples: list[Sample] = []
    wanted, video_seed = questions or 300, seed
    while len(samples) < wanted:
        video = sample_video(video_seed, config)
        made = make_questions(video, seed=seed, per_type=per_type)
        samples += [
            world_sample(video, q, i, folder)
            for i, q in enumerate(made)
            if not tasks or q.type in tasks
        ]
        video_seed += 1
    return samples[:wanted]


def write_videos(config: WorldConfig, samples: list[Sample]) -> int:
    """Write the mp4 files that the samples name and that do not exist; return how many."""
    written = 0
    for path in dict.fromkeys(s.path for s in samples):
        if not Path(path).exists():
            seed = int(Path(path).stem.rsplit("-", 1)[1])
            write_mp4(sample_video(seed, config), path)
            written += 1
    return written


def world_sample(video: WorldVideo, question: Question, index: int, folder: str = "") -> Sample:
    """Return a question of the world as a Sample: task = type, tags = category and scope."""
    kind = _KINDS[question.kind]
    tags: tuple[str, ...] = (question.category, question.scope)
    if len(question.named) == 1:
        tags += (NAMES_ONE_EVENT,)
    spans = [(video.events[e].start_s, video.events[e].end_s) for e in question.evidence]
    return Sample(
        problem_id=f"{video.name}/{index}",
        benchmark="world",
        task=question.type,
        problem=question.text,
        data_type="video",
        problem_type=kind,
        options=with_letters(question.options) if question.options else (),
        solution=question.answer,
        path=str(Path(folder, f"{video.name}.mp4"))
        if folder
        else f"{PREFIX}{video.config.salt}/{video.seed}",
        evidence=tuple(spans),
        tags=tags,
    )


def world_hash(config: WorldConfig, samples: list[Sample]) -> str:
    """Return the manifest's data hash: of the world's configuration and of every question,
    the same for rendered frames and for files."""
    rows = [dataclasses.asdict(s) | {"path": ""} for s in samples]
    return fingerprint(config, rows)


class WorldLoader:
    """Renders the world's videos at the sampled times and cuts them at the true boundaries."""

    def __init__(self, config: WorldConfig, sample_fps: float) -> None:
        self.config, self.sample_fps = config, sample_fps

    def exists(self, path: str) -> bool:
        """Return whether the path names a video of this world."""
        return path.startswith(f"{PREFIX}{self.config.salt}/")

    def load(self, path: str) -> Footage:
        """Render one video."""
        started = time.perf_counter()
        video = _video(self.config, int(path.rsplit("/", 1)[1]))
        times_S = np.arange(0, video.duration_s, 1 / self.sample_fps)
        frames = render_frames(video, times_S.tolist())
        spans = tuple((e.start_s, e.end_s) for e in video.events)
        return Footage(
            video_id=make_video_id(path, 0, ""),
            uri=path,
            times_S=times_S,
            frames_SHWC=frames,
            spans=spans,
            positions=tuple(inside(times_S, span) for span in spans),
            timings_s={"decode": time.perf_counter() - started},
        )


@lru_cache(maxsize=4)
def _video(config: WorldConfig, seed: int) -> WorldVideo:
    return sample_video(seed, config)


def inside(times_S: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Return the positions of the times within a span; the nearest one where there is none."""
    found = np.flatnonzero((times_S >= span[0]) & (times_S < span[1]))
    if len(found):
        return found
    return np.array([int(np.argmin(np.abs(times_S - sum(span) / 2)))])
