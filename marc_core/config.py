"""Every configuration of the method: its sections (`marc_core.sections`), and what commands take.

`marc_core.configure` loads and checks them, so that a wrong value fails before a cluster starts.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from marc_core.bounds import number
from marc_core.configure import PRESETS_DIR, config_to_yaml, fingerprint, load_config
from marc_core.errors import ConfigError
from marc_core.filenames import VIDEO_ENDINGS
from marc_core.recorded.config import ClockConfig
from marc_core.sections import (
    CompressConfig,
    EncoderConfig,
    EventConfig,
    MemoryConfig,
    PromptConfig,
    RetrieveConfig,
    StudentConfig,
    TeacherConfig,
    TextConfig,
    VideoConfig,
)

__all__ = [
    "PRESETS_DIR",
    "AnswerConfig",
    "ClockConfig",
    "CompressConfig",
    "EncoderConfig",
    "EventConfig",
    "IndexConfig",
    "MemoryConfig",
    "MethodConfig",
    "PromptConfig",
    "RetrieveConfig",
    "StudentConfig",
    "TeacherConfig",
    "TextConfig",
    "VideoConfig",
    "config_to_yaml",
    "fingerprint",
    "load_config",
]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """All of the method: what index, search, ask, evaluation, training and serving share."""

    video: VideoConfig = field(default_factory=VideoConfig)
    """Decoding and sampling."""
    events: EventConfig = field(default_factory=EventConfig)
    """Cutting into events."""
    text: TextConfig = field(default_factory=TextConfig)
    """Text beside events."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The model that finds events."""
    student: StudentConfig = field(default_factory=StudentConfig)
    """The model that answers."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """The model that answers from all frames."""
    compress: CompressConfig = field(default_factory=CompressConfig)
    """Merging of visual tokens."""
    retrieve: RetrieveConfig = field(default_factory=RetrieveConfig)
    """Choice of events."""
    answer: PromptConfig = field(default_factory=PromptConfig)
    """What the student is told in words."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """Where events are kept."""
    clock: ClockConfig = field(default_factory=ClockConfig)
    """When videos were recorded, and whose clock people mean."""
    archive_options: dict[str, str] = field(default_factory=dict)
    """Object store options of the archive (endpoint_override, region, scheme, ...)."""

    def __post_init__(self) -> None:
        """Raise ConfigError where two sections contradict each other."""
        if 0 < self.video.sample_fps * self.events.max_event_s < 2:
            raise ConfigError(
                "events.max_event_s must hold two samples (2 / video.sample_fps). "
                f"Got {self.events.max_event_s} and {self.video.sample_fps}."
            )

        student = self.student
        if student.model == "none" and self.memory.store_features:
            raise ConfigError(
                "student.model=none makes no features: use memory.store_features=false, too."
            )
        own_places = self.compress.mode == "tokens" and student.temporal_positions == "time"
        if student.engine == "vllm" and own_places:
            raise ConfigError(
                "student.engine=vllm cannot give single tokens their own times. Use "
                "student.temporal_positions=grid and a student trained so, or compress.mode=plain."
            )

    def teacher_model(self) -> StudentConfig:
        """Return the teacher as a section of the same kind as `student`; equal where it is the
        same model."""
        teacher = self.teacher
        if not teacher.model:
            return self.student
        return dataclasses.replace(self.student, model=teacher.model, revision=teacher.revision)


@dataclass(frozen=True, kw_only=True)
class IndexConfig(MethodConfig):
    """An indexing job: an archive's way into the memory."""

    archive: tuple[str, ...] = ()
    """Folders, files or object-store prefixes."""
    patterns: tuple[str, ...] = tuple(f"*.{ending}" for ending in VIDEO_ENDINGS)
    """File names taken from folders, case-insensitive (default: what the decoder opens). A file
    named itself is always taken; others that look like videos are counted in the report."""
    max_failed_fraction: float = number(0.5, above=0, most=1)
    """Share of failed videos above which the job's exit code is not zero (our choice)."""
    max_attempts: int = number(3, least=1)
    """Failed attempts after which a video that kills or stalls the decoder is quarantined."""
    only: Literal["all", "features", "embeddings", "texts"] = "all"
    """What a run does. texts: of indexed videos, make what text stages are on (`text`); index
    nothing. features: of videos whose cuts and embeddings stay as they are, compute only
    what a student reads, from the frames at the stored times; index nothing. embeddings: embed
    every event of the memory with `encoder`, from those frames, and exchange all vectors when none
    misses."""
    retry_failed: bool = False
    """Try videos again that failed for a reason of their own (unreadable, over_limit)."""
    decode_workers: int = number(0, least=0)
    """Decode actors; 0 means one per CPU of the cluster left beside the encoder, as
    many as it can start."""
    decode_cpus: float = number(0.8, above=0)
    """CPUs of a decode actor; below 1, so that encoder and writer find a slot (our choice)."""
    encode_workers: int = number(0, least=0)
    """Encoder actors; 0 means one per GPU, or one when there is none."""
    encode_gpus: float = number(1.0, least=0)
    """GPUs of an encoder actor where it runs on one."""
    encode_device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where encoders run. auto: on GPUs where the cluster has one, or says that it can start one;
    gpu: also on GPUs of nodes that an autoscaler has yet to start."""
    write_videos: int = number(256, least=1)
    """Videos in one commit at most; a commit is what a killed job has to repeat (our choice)."""
    write_bytes: int = number(64 * 1024**2, least=1)
    """Bytes of rows after which a commit is made (our choice)."""
    write_interval_s: float = number(5.0, above=0)
    """Seconds after which a finished video is written, however few there are (our choice)."""


@dataclass(frozen=True, kw_only=True)
class AnswerConfig(MethodConfig):
    """What a deployment fixes about searching and answering. What one request says is a
    `marc_core.question.Question`."""

    ignored_in_files: ClassVar[frozenset[str]] = frozenset()
    """Keys of IndexConfig that a file may hold: the one that the memory was indexed with."""


AnswerConfig.ignored_in_files = frozenset(
    {f.name for f in dataclasses.fields(IndexConfig)}
    - {f.name for f in dataclasses.fields(AnswerConfig)}
)
