"""What every entry point shares: Ray's start, errors as one line, output for people or machines."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.errors import clear_errors
from jobs.terminal import console

__all__ = ["clear_errors", "console", "print_json", "ray_session", "suit_small_models"]


@contextmanager
def ray_session(address: str | None = None, *, min_cpus: int = 0) -> Iterator[None]:
    """Connect to a cluster, or start a local one for this process.

    The cluster is that of `address`, else of RAY_ADDRESS, else one that runs on this machine;
    `local` always starts one. It has as many CPUs as the machine, in its books at least `min_cpus`.
    """
    import ray

    # Ray starts its processes by fork and immediate exec, which LanceDB's threads survive.
    warnings.filterwarnings("ignore", message="lancedb fork support", category=RuntimeWarning)
    address = address or os.environ.get("RAY_ADDRESS")
    started = not ray.is_initialized()
    if started and address not in (None, "local"):
        ray.init(address=address, logging_level=logging.WARNING)
    elif started:
        _join_or_start(address, min_cpus)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def _join_or_start(address: str | None, min_cpus: int) -> None:
    import ray

    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": bool(os.environ.get("MARC_WORKER_LOGS")),
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": _worker_env()},
    }
    if min_cpus <= (os.cpu_count() or 1):
        ray.init(address=address, **options)
        return
    try:
        ray.init(address=address, num_cpus=min_cpus, **options)
    except ValueError:  # Ray refuses num_cpus where it joins a cluster of `ray start`.
        ray.init(address=address, **options)


def _worker_env() -> dict[str, str]:
    """Make this checkout importable by local workers, without an installed package."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.environ.get("PYTHONPATH", "")
    if root in path.split(os.pathsep):
        return {"PYTHONPATH": path}
    return {"PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


def print_json(value: Any) -> None:
    """Print one JSON document to standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def suit_small_models(model: str) -> None:
    """Where `model` is a preset's, of a few million parameters: one thread, no bar for loading.

    Measured: two OpenMP threads on a busy machine made its tokens up to 60 times slower. Students
    of real size keep torch's default.
    """
    import torch
    from transformers.utils import logging as transformers_logging

    if model.startswith("preset:"):
        torch.set_num_threads(1)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
