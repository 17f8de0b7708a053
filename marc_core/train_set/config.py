"""Configuration of a training set. All values are our choice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from marc_core.bounds import number
from marc_core.config import MethodConfig
from marc_core.errors import ConfigError
from marc_core.world.config import WorldConfig

TRAIN_SALT = 2000
"""Salt of the worlds that students are trained on; evaluation's is 1000, its teacher's 0."""


def training_world() -> WorldConfig:
    """Return the world of the default training set: videos of 3 - 6 scenes, its own salt."""
    return WorldConfig(salt=TRAIN_SALT)


@dataclass(frozen=True, kw_only=True)
class TrainSetConfig(MethodConfig):
    """A training set: which videos and questions, and what the student reads of them."""

    source: Literal["world", "video-r1"] = "world"
    """world: the synthetic world, from seeds. video-r1: questions in the form of Video-R1's
    training files, about videos and images."""
    data: str = ""
    """Video-R1: a .json, .jsonl or .parquet file, or a folder of them."""
    videos: str = ""
    """Video-R1: folder or bucket address (s3://bucket/prefix) below which videos and images lie."""
    questions: int = number(0, least=0)
    """Video-R1: at most this many questions, evenly chosen; 0 = all."""
    world: WorldConfig = field(default_factory=training_world)
    """The world's videos; its salt is not the evaluation's."""
    first_seed: int = number(0, least=0)
    """First seed of the world's videos."""
    num_videos: int = number(6000, least=1)
    """Videos of the world."""
    long_every: int = number(16, least=0)
    """World: one of so many videos is longer than the others; 0: none. Its events are found among
    10 to 25, and their times shortened (`marc_core.compress.timeline`)."""
    long_lengths_s: tuple[float, ...] = number((60.0, 120.0), above=0)
    """World: least lengths of longer videos in seconds, all equally likely."""
    questions_per_type: int = number(3, least=1)
    """World: questions of each type about one video."""
    more_of: tuple[str, ...] = ()
    """World: types of which a video gets twice as many; three times where a type is named twice,
    and so on."""
    seed: int = number(0, least=0)
    """Seed of the world's questions and of the budgets."""
    budgets: tuple[int, ...] = number((3, 5, 9, 9, 9, 18), least=0)
    """Visual tokens that the student reads, one drawn for each video, all equally likely; 0 = one
    frame's. Mixed, so that one student answers at several budgets."""
    event_facts: bool = True
    """Tell the student in words where the events that a question names lie in their video."""
    store_teacher: bool = False
    """Also store what the teacher reads, all frames uncompressed: 10 to 100 times as large. The
    world's is made again from its seed where it is needed."""
    output: str = "runs/train-set"
    """Folder or bucket address of the set. A rerun with the same settings resumes."""
    videos_per_shard: int = number(50, least=1)
    """Videos of one Parquet file, which is written whole."""
    max_failed_fraction: float = number(0.5, above=0, most=1)
    """Share of failed videos above which the exit code is not zero."""

    def __post_init__(self) -> None:
        """Raise ConfigError where two values contradict each other."""
        for name in ("budgets", "long_lengths_s", "more_of"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        super().__post_init__()
        if not self.budgets:
            raise ConfigError("budgets must name at least one number of tokens. Got none.")
        if self.long_every and not self.long_lengths_s:
            raise ConfigError("long_lengths_s must name a length where long_every is not 0.")
        if self.source == "video-r1" and not (self.data and self.videos):
            raise ConfigError(
                "source=video-r1 needs data=FILE and videos=FOLDER. "
                f"Got data='{self.data}', videos='{self.videos}'."
            )
