"""What a result rests on: everything that would have to be the same to get the same numbers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marc_core.config import fingerprint
from marc_core.evaluation.config import EvaluateConfig
from marc_core.evaluation.datasets.sample import Sample
from marc_core.evaluation.scoring.metrics import judged_by_rule
from marc_core.evaluation.variants.prompts import THINK_TEMPLATE, TYPE_TEMPLATE, prompt_style

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGES = ("marc-video", "torch", "transformers", "ray", "numpy", "pyarrow", "av", "lancedb")
_OPERATIONAL = ("output", "workers", "worker_gpus", "batch_size", "resamples", "probe_videos",
                "by_video", "scoring")  # fmt: skip
"""Settings that change no answer."""


def make_manifest(
    config: EvaluateConfig,
    samples: Sequence[Sample],
    *,
    data_hash: str,
    student_fingerprint: str,
    encoder_fingerprint: str | None,
) -> dict[str, Any]:
    """Return the manifest of a run, as plain JSON values."""
    style = prompt_style(config)
    return {
        "benchmark": config.benchmark,
        "data_hash": data_hash,
        "questions": len(samples),
        "videos": len({s.path for s in samples}),
        "judged_by_rule": sum(judged_by_rule(s) for s in samples),
        "prompt": style,
        "prompt_hash": fingerprint(THINK_TEMPLATE, TYPE_TEMPLATE) if style == "video-r1" else None,
        "scoring": config.scoring,
        "student": config.student.model,
        "student_fingerprint": student_fingerprint,
        "encoder": config.encoder.model,
        "encoder_fingerprint": encoder_fingerprint,
        "frames": {n: a.frames for n, a in config.chosen_variants().items()},
        "sample_fps": config.video.sample_fps,
        "frame_max_pixels": config.student.frame_max_pixels,
        "max_new_tokens": config.student.max_new_tokens,
        "temperature": config.student.temperature,
        "seed": config.seed,
        "variants": {n: dataclasses.asdict(a) for n, a in config.chosen_variants().items()},
        "settings": settings(config),
        "run": run_fingerprint(config, data_hash, student_fingerprint, encoder_fingerprint),
        "versions": versions(),
        "hardware": hardware(),
        "finished_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def settings(config: EvaluateConfig) -> dict[str, Any]:
    """Return the configuration without what changes no answer and without secrets."""
    plain = dataclasses.asdict(config)
    for name in (*_OPERATIONAL, "variants", "only_variants", "data", "videos"):
        plain.pop(name)
    plain["world_files"] = config.benchmark == "world" and bool(config.videos)
    plain["memory"].pop("storage_options")
    plain["student"].pop("device")
    plain["encoder"].pop("device")
    return plain


def run_fingerprint(
    config: EvaluateConfig,
    data_hash: str,
    student_fingerprint: str,
    encoder_fingerprint: str | None,
) -> str:
    """Return what decides a single answer besides question and variant: a rerun with the same one
    resumes, another starts afresh. Variants are not part of it, so that variants can be added."""
    plain = settings(config)
    return fingerprint(
        plain, prompt_style(config), data_hash, student_fingerprint, encoder_fingerprint
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that touch the numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Return CPU, cores, memory and GPUs of this process's machine, in generic words."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(_memory_bytes() / 1024**3, 1),
        "gpus": gpus,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_bytes() -> int:
    if sys.platform == "linux":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0
