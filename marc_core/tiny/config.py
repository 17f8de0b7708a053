"""Configuration of the tiny preset's training. All values are our choice; see docs/tiny.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from marc_core.bounds import number
from marc_core.errors import ConfigError
from marc_core.training.config import TrainConfig

MOVERS = ("moves", "passes", "hits", "hides")
"""Actions with motion, which is rare otherwise."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of the student's curriculum."""

    name: str = "full"
    """Name in curves and checkpoints."""
    kind: Literal["vision", "language"] = "language"
    """vision: the tower alone against per-token attributes. language: packed questions."""
    steps: int = number(1000, least=1)
    """Optimiser steps."""
    videos_per_step: int = number(8, least=1)
    """Videos of a batch, per worker."""
    questions: int = number(10, least=1)
    """Questions of a video, packed into one sequence."""
    types: tuple[str, ...] = ()
    """Types of question in focus; empty means all. A skill is learned after so many questions of
    its own, so a few at a time are learned sooner."""
    focus_share: float = number(0.6, least=0, most=1)
    """Share of videos that are asked nothing but `types`. Without the others, skills learned
    before are lost within 200 steps."""
    per_type: int = number(0, least=0)
    """Most questions of a type about a video; 0 means 1 for a single scene, else 2."""
    learning_rate: float = number(1e-3, above=0)
    """Peak; warm-up over the first 5 %, then a cosine to `final_rate`."""
    final_rate: float = number(0.1, least=0, most=1)
    """Rate at the end, as a share of the peak: 1 where a skill must still break through."""
    muon_scale: float = number(1.5, above=0)
    """Muon's rate as a multiple of AdamW's; both move a weight by about the same root mean square
    at 1. On the vision stage 5 was best of 2, 5 and 13; on questions 1.5 beat 4 and 5."""
    train_vision: bool = False
    """Let the answers' gradients reach the vision tower, too (language stages)."""
    scene_weight: float = number(0.0, least=0)
    """Weight of what visual tokens should know in the middle of the model (`scenes`); 0: none."""
    min_scenes: int = number(3, least=1)
    """Fewest scenes of a video."""
    max_scenes: int = number(6, least=1)
    """Most scenes of a video."""
    long_share: float = number(0.0, least=0, most=1)
    """Share of videos that have `max_scenes` to `long_scenes` scenes instead."""
    long_scenes: int = number(23, least=1)
    """Most scenes of these: 23 are two minutes, of which 64 frames show 2.8 a scene."""
    compressed_share: float = number(0.0, least=0, most=1)
    """Share of videos shown as three events, compressed to `budgets` groups."""
    single_share: float = number(0.0, least=0, most=1)
    """Share of videos replaced by one of a single scene (rehearsal of the stage before)."""
    budgets: tuple[int, ...] = number((1, 2, 4, 8), least=1)
    """Groups of compressed videos, all equally likely."""

    def __post_init__(self) -> None:
        """Raise ConfigError where two values contradict each other."""
        for name in ("budgets", "types"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.long_share and self.long_scenes < self.max_scenes:
            raise ConfigError(
                f"long_scenes must be at least max_scenes. Got {self.long_scenes} < "
                f"{self.max_scenes}."
            )
        if self.max_scenes < self.min_scenes:
            raise ConfigError(
                f"max_scenes must be at least min_scenes. Got {self.max_scenes} < "
                f"{self.min_scenes}."
            )


def default_stages() -> list[StageConfig]:
    """Return the curriculum: the tower, all questions, all questions with the tower.

    What was run for the shipped weights, on two workers (jobs/configs/train_sft.yaml).
    """
    hard = ("action", "attribute_change", "order", "after", "before", "which_event", "how_long")
    language: dict[str, Any] = {
        "videos_per_step": 4,
        "questions": 16,
        "per_type": 2,
        "min_scenes": 2,
        "single_share": 0.06,
    }
    return [
        StageConfig(
            name="vision", kind="vision", steps=5000, videos_per_step=6, learning_rate=1.5e-3,
            muon_scale=5.0,
        ),
        StageConfig(
            name="all", steps=2200, focus_share=0.0, scene_weight=0.15, learning_rate=1e-3,
            final_rate=0.5, **language,
        ),
        StageConfig(
            name="full", steps=2000, types=hard, focus_share=0.5, scene_weight=0.12,
            learning_rate=5e-4, final_rate=0.02, train_vision=True, compressed_share=0.12,
            **language,
        ),
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SftConfig(TrainConfig):
    """Training of the tiny student."""

    start: str = ""
    """Directory of a student to continue from; empty starts from random weights."""
    stages: list[StageConfig] = field(default_factory=default_stages)
    """Curriculum, in order."""
    only: list[str] = field(default_factory=list)
    """Names of stages to run; empty means all."""


@dataclass(frozen=True, kw_only=True)
class EncoderTrainConfig(TrainConfig):
    """Training of the tiny dual encoder."""

    start: str = ""
    """Directory of an encoder to continue from; empty starts from random weights."""
    steps: int = number(3000, least=1)
    """Optimiser steps."""
    videos_per_step: int = number(24, least=2, why="a batch of one has no negatives")
    """Videos of a batch, per worker; their events are one another's negatives."""
    contrast_from: float = number(0.4, least=0, most=1)
    """Share of the steps without contrast, in which both towers learn to read meanings."""
    frames_per_event: int = number(3, least=1)
    """Frames drawn from each event; their mean embedding is the event's, as in the memory."""
    learning_rate: float = number(1e-3, above=0)
    """Peak; warm-up over the first 5 %, then a cosine to a tenth."""
    muon_scale: float = number(5.0, above=0)
    """Muon's rate as a multiple of AdamW's."""
