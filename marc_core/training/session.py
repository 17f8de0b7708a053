"""Where a training run keeps its state: this process's folder, or a Ray Train run.

    train_student / train_encoder --> Session.restore() once
                                  --> Session.report() at points of the curve
                                  --> Session.save() at checkpoints, from every rank in step

A checkpoint is a folder: weights.safetensors (float32, also of heads that are thrown away
later), optimizer.pt (tensors only) and state.json (stage, step, whatever else the run must know).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Restored:
    """A checkpoint that was read back. stage: position in the curriculum. step: steps done.
    extra: what else the run saved, as JSON."""

    stage: int
    step: int
    weights: Weights
    optimizer: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)


class Session(Protocol):
    """What training needs from the process that it runs in."""

    rank: int
    size: int
    device: torch.device

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module with gradients averaged over all workers."""
        ...

    def report(self, stage: str, step: int, metrics: dict[str, float]) -> None:
        """Add one point to the curve."""
        ...

    def save(self, stage: int, step: int, weights: Weights, optimizer: dict[str, Any]) -> None:
        """Keep a checkpoint; called by every rank at the same steps."""
        ...

    def restore(self) -> Restored | None:
        """Return the last checkpoint, if there is one."""
        ...


class LocalSession:
    """One process, one folder; running it again with the same folder continues."""

    rank, size = 0, 1

    def __init__(self, output: Path, device: torch.device) -> None:
        self.output, self.device = output, device
        output.mkdir(parents=True, exist_ok=True)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module itself."""
        return module

    def report(self, stage: str, step: int, metrics: dict[str, float]) -> None:
        """Append one JSON line to curves.jsonl."""
        append_curve(self.output, stage, step, metrics)

    def save(
        self,
        stage: int,
        step: int,
        weights: Weights,
        optimizer: dict[str, Any],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace the folder's checkpoint in one step."""
        fresh, old = self.output / "checkpoint.new", self.output / "checkpoint"
        shutil.rmtree(fresh, ignore_errors=True)
        write_checkpoint(fresh, stage, step, weights, optimizer, extra)
        if old.exists():
            shutil.rmtree(self.output / "checkpoint.old", ignore_errors=True)
            os.replace(old, self.output / "checkpoint.old")
        os.replace(fresh, old)

    def restore(self) -> Restored | None:
        """Return the folder's checkpoint, or the one before it if the run died between the two."""
        for name in ("checkpoint", "checkpoint.old"):
            if (self.output / name / "state.json").is_file():
                return read_checkpoint(self.output / name)
        return None


def append_curve(output: Path, stage: str, step: int, metrics: dict[str, float]) -> None:
    """Append one JSON line to `output`/curves.jsonl."""
    point = {"stage": stage, "step": step, **{k: round(v, 5) for k, v in metrics.items()}}
    with (output / "curves.jsonl").open("a") as file:
        file.write(json.dumps(point) + "\n")


def write_checkpoint(
    folder: Path,
    stage: int,
    step: int,
    weights: Weights,
    optimizer: dict[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint into a new folder; state.json comes last."""
    folder.mkdir(parents=True)
    plain = {name: w.detach().cpu().contiguous() for name, w in weights.items()}
    save_file(plain, folder / "weights.safetensors")
    torch.save(optimizer, folder / "optimizer.pt")
    state = {"stage": stage, "step": step, "extra": dict(extra or {})}
    (folder / "state.json").write_text(json.dumps(state))


def read_checkpoint(folder: Path) -> Restored:
    """Return what `write_checkpoint` wrote."""
    state = json.loads((folder / "state.json").read_text())
    optimizer = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    weights = load_file(folder / "weights.safetensors")
    return Restored(
        int(state["stage"]), int(state["step"]), weights, optimizer, state.get("extra", {})
    )
