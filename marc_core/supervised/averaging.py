"""One student from several: the mean of their weights (Wortsman et al. 2022, "Model soups").

Students that went on from one another, or from the same start, lie close together, and their mean
answers better than each of them (docs/log.md has what it gave). Costs nothing when it answers.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from marc_core.errors import ConfigError

WEIGHTS = "model.safetensors"


def average_students(students: Sequence[tuple[Path, float]], output: Path) -> None:
    """Write a student whose weights are the weighted mean of others', as `save_pretrained` does.

    students: (folder, weight), the weights above 0; files beside the weights are the first one's.
    output: a new folder. The sum is taken in float32 and stored in the precision that they have.
    Raises ConfigError for fewer than two, other tensors, weights that are not above 0, a folder
    that exists, and a checkpoint in several files.
    """
    from safetensors.torch import save_file

    _check(students, output)
    total = sum(weight for _, weight in students)
    stored = _read(students[0][0])
    mean = {name: torch.zeros(t.shape) for name, t in stored.items()}
    for folder, weight in students:
        tensors = _read(folder)
        _same_tensors(students[0][0], stored, folder, tensors)
        for name, tensor in tensors.items():
            mean[name] += tensor.float() * (weight / total)
    shutil.copytree(students[0][0], output, ignore=shutil.ignore_patterns("*.safetensors"))
    kept = {name: t.to(stored[name].dtype).contiguous() for name, t in mean.items()}
    save_file(kept, output / WEIGHTS, metadata={"format": "pt"})


def _check(students: Sequence[tuple[Path, float]], output: Path) -> None:
    if len(students) < 2:
        raise ConfigError(f"A mean needs two students at least. Got {len(students)}.")
    for folder, weight in students:
        if not weight > 0:
            raise ConfigError(f"A student's weight must be above 0. Got {weight:g} for '{folder}'.")
        if not (folder / WEIGHTS).is_file():
            raise ConfigError(
                f"'{folder}' must be a student's folder with its weights in one file, {WEIGHTS}. "
                "It has none."
            )
    if output.exists():
        raise ConfigError(
            f"The output must be a new folder. Got '{output}', which exists: name another one."
        )


def _read(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"The weights in '{folder}' cannot be read: {error}") from error


def _same_tensors(
    first: Path, one: dict[str, torch.Tensor], other: Path, two: dict[str, torch.Tensor]
) -> None:
    shapes = [{name: tuple(t.shape) for name, t in found.items()} for found in (one, two)]
    if shapes[0] != shapes[1]:
        different = sorted(n for n in shapes[0] | shapes[1] if shapes[0].get(n) != shapes[1].get(n))
        raise ConfigError(
            f"Students must have the same tensors. '{first}' and '{other}' differ in "
            f"{', '.join(different[:3])}."
        )
