"""What a checkpoint's safetensors files hold, read without building a model.

A safetensors file opens with a JSON header (name, dtype, shape, place of every tensor), so sizes
and the bytes of single tensors are read without touching the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from marc_core.errors import ModelLoadError

if TYPE_CHECKING:
    import torch

LARGE_PARAMETERS = 300_000_000
"""Parameters of a checkpoint from which on it is computed in bfloat16 on a CPU, too (our choice:
1.2 GB in float32). Smaller ones are computed in float32 there, which is faster on most CPUs."""
_WHOLE_BYTES = 256 * 1024**2
_SAMPLES, _SAMPLE_BYTES = 8, 4 * 1024
_TOWER = "visual."


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """A tensor of a checkpoint: its name, and where its bytes lie.

    dtype: as safetensors writes it (BF16, F32, ...). start: offset of its first byte in the file.
    """

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int

    @property
    def num_parameters(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def stored_tensors(directory: Path) -> list[StoredTensor]:
    """Return every tensor of a directory's safetensors files, in order of their names.

    Raises ModelLoadError where there are none or a header is damaged.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ModelLoadError(
            f"A model's directory must hold its weights as *.safetensors. Found none in "
            f"'{directory}'. Save it with save_pretrained."
        )
    return sorted((t for path in files for t in _header(path)), key=lambda tensor: tensor.name)


def tower_tensors(directory: Path) -> dict[str, StoredTensor]:
    """Return the vision tower's tensors by their name in the tower ("blocks.0.norm1.weight").

    The families and versions write them as `visual.` or `model.visual.`. Raises ModelLoadError
    where a checkpoint has none.
    """
    found = {
        tensor.name.partition(_TOWER)[2]: tensor
        for tensor in stored_tensors(directory)
        if tensor.name.startswith((_TOWER, f"model.{_TOWER}"))
    }
    if not found:
        raise ModelLoadError(
            f"A student's checkpoint must hold a vision tower (tensors visual.*). Found none in "
            f"'{directory}'. Use a whole Qwen2-VL, 2.5-VL or 3-VL checkpoint."
        )
    return found


def tensors_digest(tensors: dict[str, StoredTensor]) -> str:
    """Return 64 hex digits of the tensors' names, shapes and bytes.

    Up to 256 MiB are read whole; of more, 8 samples of 4 KiB of each tensor, which differ in any
    tensor that was trained further.
    """
    whole = sum(t.size_bytes for t in tensors.values()) <= _WHOLE_BYTES
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, tensor.dtype, tensor.shape]).encode())
        with tensor.path.open("rb") as file:
            for start, size in _stretches(tensor.size_bytes, whole=whole):
                file.seek(tensor.start + start)
                digest.update(file.read(size))
    return digest.hexdigest()


def is_large(directory: Path) -> bool:
    """Whether the checkpoint is computed in bfloat16 on a CPU, too, see LARGE_PARAMETERS."""
    return sum(t.num_parameters for t in stored_tensors(directory)) > LARGE_PARAMETERS


def stored_dtype(directory: Path) -> torch.dtype:
    """Return the precision in which most of the checkpoint's numbers are stored."""
    counted: dict[torch.dtype, int] = {}
    for tensor in stored_tensors(directory):
        dtype = _torch_dtype(tensor)
        counted[dtype] = counted.get(dtype, 0) + tensor.num_parameters
    return max(counted, key=lambda dtype: counted[dtype])


def read_tensor(tensor: StoredTensor) -> torch.Tensor:
    """Return a stored tensor on the CPU in the precision in which it is stored.

    Its bytes are read, not mapped: what is converted afterwards leaves nothing behind.
    """
    import torch

    dtype = _torch_dtype(tensor)
    buffer = bytearray(tensor.size_bytes)
    with tensor.path.open("rb") as file:
        file.seek(tensor.start)
        read = file.readinto(buffer)
    if read != tensor.size_bytes:
        raise ModelLoadError(
            f"'{tensor.path}' ends inside the tensor {tensor.name}. Copy the checkpoint again."
        )
    return torch.frombuffer(buffer, dtype=dtype).reshape(tensor.shape)


def _header(path: Path) -> Iterator[StoredTensor]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        if 8 + length + max(e["data_offsets"][1] for e in header.values()) > size:
            raise ValueError("it ends inside a tensor")
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            yield StoredTensor(
                name=name,
                path=path,
                dtype=entry["dtype"],
                shape=tuple(entry["shape"]),
                start=8 + length + start,
                size_bytes=end - start,
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(
            f"'{path}' is not a whole safetensors file ({error}). Copy or save the "
            "checkpoint again."
        ) from error


def _stretches(size_bytes: int, *, whole: bool) -> Iterator[tuple[int, int]]:
    if whole or size_bytes <= _SAMPLES * _SAMPLE_BYTES:
        yield 0, size_bytes
        return
    for i in range(_SAMPLES):
        yield (size_bytes - _SAMPLE_BYTES) * i // (_SAMPLES - 1), _SAMPLE_BYTES


def _torch_dtype(tensor: StoredTensor) -> torch.dtype:
    import torch

    known = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    if tensor.dtype not in known:
        raise ModelLoadError(
            f"Weights must be stored as {', '.join(known)}. Tensor {tensor.name} of "
            f"'{tensor.path}' is {tensor.dtype}. Use a checkpoint that is not quantised."
        )
    return known[tensor.dtype]
