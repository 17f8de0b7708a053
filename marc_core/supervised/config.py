"""Configuration of supervised training on compressed input. All values are our choice."""

from __future__ import annotations

from dataclasses import dataclass, field

from marc_core.bounds import number
from marc_core.config import StudentConfig
from marc_core.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(TrainConfig):
    """A student's training on what it will read: its vision tower stays as it is."""

    train_set: str = ""
    """Folder or bucket address of a training set, as `python -m jobs.train_set` prints it."""
    validation_set: str = ""
    """Another set, of videos that the first does not hold; empty: no accuracy is measured."""
    student: StudentConfig = field(default_factory=StudentConfig)
    """The student to start from."""
    packed: str = ""
    """Local folder of the sets' arrays, which are made once; empty: `output`/packed."""
    steps: int = number(1000, least=1)
    """Optimiser steps."""
    questions_per_step: int = number(128, least=1)
    """Questions of a step, over all workers: whole rows, so as many on average."""
    learning_rate: float = number(7e-4, above=0)
    """Peak of AdamW's rate; warm-up over the first 5 %, then a cosine to `final_rate`."""
    final_rate: float = number(0.02, least=0, most=1)
    """Rate at the end, as a share of the peak."""
    muon_scale: float = number(1.5, above=0)
    """Muon's rate as a multiple of AdamW's (docs/tiny.md)."""
    validate_every: int = number(250, least=1)
    """Steps between measurements of accuracy, besides the last one."""
    event_facts: bool = True
    """Written to the student's marc.json: whether it is told where events lie, as the set was
    made."""
    max_seconds: float = number(0.0, least=0)
    """Longest video of the set in seconds, for marc.json; 0: as of the student it started from."""
