"""How much memory the configured models need, from the headers of their files alone.

    tower     each process that indexes
    student   the process that answers; it holds the tower's weights, too
    encoder   each process that indexes or answers

Nothing is loaded or downloaded: a hub model that is not in the local cache has no figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marc_core.config import MethodConfig
from marc_core.errors import ModelLoadError
from marc_core.models.checkpoints import NO_STUDENT, Part, local_directory
from marc_core.models.vision_tower import device_of, dtype_of
from marc_core.models.weights import StoredTensor, stored_tensors, tower_tensors


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelNeed:
    """What one model needs.

    part: tower, student or encoder. weights_bytes: in the precision in which it is computed; None
    where its files are not on this machine. A process needs up to 1 GB beside its weights.
    """

    part: str
    model: str
    num_parameters: int | None
    precision: str | None
    weights_bytes: int | None

    def __str__(self) -> str:
        if self.weights_bytes is None:
            return f"{self.part} {self.model}: not on this machine yet"
        assert self.num_parameters is not None
        return (
            f"{self.part} {self.model}: {self.num_parameters / 1e6:,.1f} million parameters, "
            f"{_size(self.weights_bytes)} in {self.precision}"
        )


def model_needs(config: MethodConfig) -> list[ModelNeed]:
    """Return what tower, student and encoder need. Raises ModelLoadError for damaged files."""
    student, encoder = config.student, config.encoder
    directory = _here("student", student.model, student.revision)
    needs = [_unknown("tower", student.model), _unknown("student", student.model)]
    if student.model == NO_STUDENT:
        needs = []
    if directory is not None:
        precision = str(dtype_of(student, directory)).removeprefix("torch.")
        tower = list(tower_tensors(directory).values())
        needs = [
            _need("tower", student.model, tower, precision),
            _need("student", student.model, stored_tensors(directory), precision),
        ]
    directory = _here("encoder", encoder.model, encoder.revision)
    if directory is None:
        return [*needs, _unknown("encoder", encoder.model)]
    precision = encoder.dtype
    if precision == "auto":
        on_gpu = device_of(student).type == "cuda"  # both devices are chosen in the same way
        precision = "bfloat16" if on_gpu else "float32"
    return [*needs, _need("encoder", encoder.model, stored_tensors(directory), precision)]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _need(part: str, model: str, tensors: list[StoredTensor], precision: str) -> ModelNeed:
    count = sum(tensor.num_parameters for tensor in tensors)
    return ModelNeed(
        part=part,
        model=model,
        num_parameters=count,
        precision=precision,
        weights_bytes=count * (4 if precision == "float32" else 2),
    )


def _unknown(part: str, model: str) -> ModelNeed:
    return ModelNeed(
        part=part, model=model, num_parameters=None, precision=None, weights_bytes=None
    )


def _here(part: Part, name: str, revision: str | None) -> Path | None:
    """Return the model's directory where it is on this machine."""
    try:
        return local_directory(part, name, revision, download=False)
    except ModelLoadError:
        if name.startswith("preset:"):
            raise
        return None
