"""Configuration that every training shares. All values are our choice."""

from __future__ import annotations

from dataclasses import dataclass

from marc_core.bounds import number


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What every training shares."""

    output: str = "runs/train"
    """Folder of checkpoints, curves and the final model."""
    seed: int = number(0, least=0)
    """Seed of initial weights and of the data: step s of a worker always sees the same videos."""
    num_workers: int = number(1, least=0)
    """Ray Train workers; 0 trains in this process, without Ray."""
    use_gpu: bool = False
    """One GPU for each worker."""
    start_timeout_s: float = number(900.0, above=0)
    """Seconds to wait until the cluster has room for all workers, nodes that an autoscaler has to
    start included; then the run ends and says what is missing."""
    save_every: int = number(500, least=1)
    """Steps between checkpoints."""
    log_every: int = number(25, least=1)
    """Steps between points of the curve."""
    weight_decay: float = number(0.01, least=0)
    """On matrices only."""
    clip_norm: float = number(1.0, above=0)
    """Largest norm of a gradient."""
