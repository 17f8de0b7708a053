"""Configuration that every training shares. All values are our choice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What every training shares."""

    output: str = "runs/train"
    """Folder of checkpoints, curves and the final model."""
    seed: int = 0
    """Seed of initial weights and of the data: step s of a worker always sees the same videos."""
    num_workers: int = 1
    """Ray Train workers; 0 trains in this process, without Ray."""
    use_gpu: bool = False
    """One GPU for each worker."""
    save_every: int = 500
    """Steps between checkpoints."""
    log_every: int = 25
    """Steps between points of the curve."""
    weight_decay: float = 0.01
    """On matrices only."""
    clip_norm: float = 1.0
    """Largest norm of a gradient."""
