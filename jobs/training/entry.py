"""What `jobs.train_sft` and `jobs.train_encoder` share: configuration, dry run, where to train."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from jobs.common import clear_errors, ray_session
from jobs.terminal import say
from jobs.training.ray_train import fit, forget
from marc_core.config import config_to_yaml, load_config
from marc_core.training.config import TrainConfig
from marc_core.training.session import LocalSession

T = TypeVar("T", bound=TrainConfig)


def run(
    cls: type[T],
    train: Callable[[T, Any], None],
    *,
    overrides: list[str],
    files: list[Path],
    address: str | None,
    dry_run: bool,
    fresh: bool,
) -> None:
    """Resolve the configuration and train: `num_workers=0` here, else on Ray Train."""
    with clear_errors():
        config = load_config(cls, files=files, overrides=overrides)
        text = config_to_yaml(config)
        if dry_run:
            sys.stdout.write(text)
            return
        output = Path(config.output)
        output.mkdir(parents=True, exist_ok=True)
        if fresh:
            forget(output)
        (output / "config.yaml").write_text(text)
        if config.num_workers == 0:
            train(config, LocalSession(output, _device(config)))
        else:
            # The controller counts a CPU of its own, which it hardly uses.
            with ray_session(address, min_cpus=config.num_workers + 1):
                fit(train, config)
        say(f"Trained. Curves: {output / 'curves.jsonl'}")


def _device(config: TrainConfig) -> torch.device:
    return torch.device("cuda" if config.use_gpu else "cpu")
