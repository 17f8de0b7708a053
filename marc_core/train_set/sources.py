"""Where a training set's videos and questions come from.

WorldSource     a seed a video: questions and frames are drawn from it, no files
FileSource      Video-R1's training files: questions in JSON or Parquet, videos and images
                in a folder or bucket
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from marc_core.evaluation.datasets.benchmarks import (
    data_files,
    data_hash,
    read_rows,
    resolve,
    video_r1_sample,
)
from marc_core.evaluation.datasets.questions import evenly
from marc_core.evaluation.datasets.sample import BenchmarkError, Row
from marc_core.evaluation.datasets.world import PREFIX, WorldLoader, world_sample
from marc_core.evaluation.variants.footage import FileLoader, Footage
from marc_core.train_set.rows import Asked
from marc_core.world import WorldConfig, make_questions, sample_video

if TYPE_CHECKING:
    from marc_core.embed import DualEncoder
    from marc_core.train_set.config import TrainSetConfig

VIDEO_R1 = "video-r1"


class Source(Protocol):
    """Videos with questions. It travels to workers."""

    def paths(self) -> list[str]:
        """Return every video or image, each once, in a fixed order."""
        ...

    def asked(self, path: str) -> list[Asked]:
        """Return the questions about a video."""
        ...

    def data_hash(self) -> str:
        """Return a digest of the questions, part of the set's name."""
        ...


class Opener(Protocol):
    """Turns a path into footage; lives in one worker. Raises VideoError or SourceError."""

    def load(self, path: str) -> Footage:
        """Return the footage of one video or image."""
        ...


class WorldSource:
    """Videos of the synthetic world."""

    def __init__(self, config: TrainSetConfig) -> None:
        self.config = config

    def paths(self) -> list[str]:
        """Return a name for every seed."""
        first, salt = self.config.first_seed, self.config.world.salt
        return [f"{PREFIX}{salt}/{first + i}" for i in range(self.config.num_videos)]

    def asked(self, path: str) -> list[Asked]:
        """Return up to `questions_per_type` questions of every type, more of some."""
        seed, config = seed_of(path), self.config
        video = sample_video(seed, world_of(config, seed))
        most = config.questions_per_type
        made = make_questions(video, seed=config.seed, per_type=most)
        for name, times in Counter(config.more_of).items():
            more = make_questions(
                video, seed=config.seed, per_type=(1 + times) * most, types=[name]
            )
            made = (*(q for q in made if q.type != name), *more)
        found = []
        for index, question in enumerate(made):
            words = (question.answer,) if question.options else (question.answer_text,)
            answers = tuple(dict.fromkeys([*words, question.answer]))
            found.append(Asked(sample=world_sample(video, question, index), answers=answers))
        return found

    def data_hash(self) -> str:
        """Return a constant: the configuration says all."""
        return "world"


class WorldOpener:
    """Renders the world's videos at the sampled times."""

    def __init__(self, config: TrainSetConfig) -> None:
        self.config = config

    def load(self, path: str) -> Footage:
        """Render one video."""
        world = world_of(self.config, seed_of(path))
        return WorldLoader(world, self.config.video.sample_fps).load(path)


def seed_of(path: str) -> int:
    """Return the seed in the name of a world's video."""
    return int(path.rsplit("/", 1)[1])


def world_of(config: TrainSetConfig, seed: int) -> WorldConfig:
    """Return the world that a seed's video is drawn from: now and then one of longer videos."""
    if not config.long_every or seed % config.long_every:
        return config.world
    lengths = config.long_lengths_s
    longest = lengths[seed // config.long_every % len(lengths)]
    return dataclasses.replace(config.world, min_duration_s=longest)


class FileSource:
    """Questions in the form of Video-R1's training files, read once.

    Raises BenchmarkError for a missing file and for a row that is malformed.
    """

    def __init__(self, config: TrainSetConfig) -> None:
        self.hash = data_hash(config.data)
        self._asked: dict[str, list[Asked]] = {}
        for asked in evenly(_read(config), config.questions):
            self._asked.setdefault(asked.sample.path, []).append(asked)

    def paths(self) -> list[str]:
        """Return every video and image that is asked about."""
        return list(self._asked)

    def asked(self, path: str) -> list[Asked]:
        """Return the questions about a video or image."""
        return self._asked[path]

    def data_hash(self) -> str:
        """Return a digest of the question files."""
        return self.hash


def _read(config: TrainSetConfig) -> list[Asked]:
    found: list[Asked] = []
    for file in data_files(config.data):
        content = read_rows(file)
        if not isinstance(content, list):
            raise BenchmarkError(f"'{file}' must hold a list of rows.")
        for index, values in enumerate(content):
            found.append(_file_question(Row(values, file=str(file), index=index), config))
    if len({asked.sample.problem_id for asked in found}) < len(found):
        raise BenchmarkError(
            f"Every question of '{config.data}' must have its own problem_id. Give files that do "
            "not overlap."
        )
    return found


def _file_question(row: Row, config: TrainSetConfig) -> Asked:
    sample = video_r1_sample(row, VIDEO_R1, "")
    path = located(row.text("path"), config.videos)
    return Asked(sample=dataclasses.replace(sample, path=path), answers=(sample.solution,))


def located(path: str, videos: str) -> str:
    """Return where a file of Video-R1's ("./CLEVRER/a.mp4") lies in a folder or bucket."""
    if "://" not in videos:
        return resolve(path, VIDEO_R1, videos)
    parts = [part for part in Path(path).parts if part not in (".", "/")]
    return "/".join([videos.rstrip("/"), *parts])


class FileOpener:
    """Decodes videos and pictures, fetched first where they lie in a bucket."""

    def __init__(self, config: TrainSetConfig, encoder: DualEncoder) -> None:
        self.options, self.loader = config.archive_options, FileLoader(config, encoder)

    def load(self, path: str) -> Footage:
        """Return the footage of one file, under its own address."""
        from marc_core.video import list_videos, local_copy

        (source,) = list_videos([path], (), self.options)
        with local_copy(source, self.options) as local:
            footage = self.loader.load(local)
        return dataclasses.replace(footage, video_id=source.video_id, uri=source.uri)


def open_source(config: TrainSetConfig) -> Source:
    """Return the questions of a configuration. Raises BenchmarkError."""
    return WorldSource(config) if config.source == "world" else FileSource(config)


def make_opener(config: TrainSetConfig, encoder: DualEncoder) -> Opener:
    """Return what turns the source's paths into footage."""
    return WorldOpener(config) if config.source == "world" else FileOpener(config, encoder)
