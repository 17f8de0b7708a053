"""Just enough of Ray for a chain and its writer to run in this process, without any actor.

The chain, its stages, the gathering of commits and the writer are the product's own; only who runs
them differs. Rows are copied on the way as between processes, so that no stage can write into what
another one holds.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray.exceptions

import pipelines
from marc_core.video import IsolatedDecoder
from pipelines.pools import Capacity
from pipelines.stages import from_ipc, to_ipc

CPUS = 2.0


@dataclass(frozen=True)
class Bundle:
    """What an executor hands to its consumer: references, which are the tables here."""

    block_refs: list[pa.Table]

    def size_bytes(self) -> int:
        return sum(table.nbytes for table in self.block_refs)


class Dataset:
    """A lazy chain of stages over blocks, like ray.data.Dataset."""

    def __init__(self, blocks: Callable[[], Iterable[pa.Table]]) -> None:
        self.blocks = blocks

    def map_batches(
        self, stage: type, *, fn_constructor_args: tuple[Any, ...], **_: Any
    ) -> Dataset:
        def out() -> Iterator[pa.Table]:
            actor = stage(*fn_constructor_args)
            for block in self.blocks():
                result = actor(from_ipc(to_ipc(block)))
                yield from [result] if isinstance(result, pa.Table) else result

        return Dataset(out)

    def iter_internal_ref_bundles(self) -> Iterator[Bundle]:
        return (Bundle([block]) for block in self.blocks())

    def materialize(self) -> list[pa.Table]:
        return list(self.blocks())


class Handle:
    """An actor in this process; a call is done before it returns, and its value the reference."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *args: Reference(getattr(self._actor, name)(*args)))


class Reference:
    """The value of a call."""

    def __init__(self, value: Any) -> None:
        self.value = value


class LocalRay:
    """Stands for the module `ray` in the pipelines."""

    data = SimpleNamespace(
        from_blocks=lambda blocks: Dataset(lambda: blocks),
        from_arrow=lambda tables: Dataset(lambda: tables),
    )
    exceptions = ray.exceptions

    @staticmethod
    def get(references: Any) -> Any:
        if isinstance(references, list):
            return [LocalRay.get(reference) for reference in references]
        return references.value if isinstance(references, Reference) else references

    @staticmethod
    def wait(references: list[Any], *, num_returns: int, timeout: float | None) -> Any:
        return references[:num_returns], references[num_returns:]

    @staticmethod
    def kill(handle: Handle) -> None:
        pass

    @staticmethod
    def cluster_resources() -> dict[str, float]:
        return {"CPU": CPUS}

    @staticmethod
    def remote(actor: type) -> Any:
        start = SimpleNamespace(remote=lambda *args: Handle(actor(*args)))
        return SimpleNamespace(options=lambda **_: start)


@contextmanager
def chains_here() -> Iterator[None]:
    """Let the pipelines run their chains in this process."""
    here = Capacity(cpus=CPUS, gpus=0.0, most_cpus=CPUS, most_gpus=0.0)
    with pytest.MonkeyPatch.context() as patch, decoders_closed(patch):
        for found in pkgutil.iter_modules(pipelines.__path__, "pipelines."):
            module = import_module(found.name)
            if hasattr(module, "ray"):
                patch.setattr(module, "ray", LocalRay)
            if hasattr(module, "capacity"):
                patch.setattr(module, "capacity", lambda: here)
        yield


@contextmanager
def decoders_closed(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the children of all decoders, as the death of the actors that hold them does."""
    made: list[IsolatedDecoder] = []
    make = IsolatedDecoder.__init__

    def kept(self: IsolatedDecoder, *args: Any, **settings: Any) -> None:
        make(self, *args, **settings)
        made.append(self)

    patch.setattr(IsolatedDecoder, "__init__", kept)
    try:
        yield
    finally:
        for decoder in made:
            decoder.close()
