"""Fixtures of the whole suite: one local Ray a session, started when a test asks; real clips."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
FPS = 10
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: models here are tiny
os.environ.setdefault("RAY_worker_niceness", "0")  # else whatever else runs comes before a test
settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of pytest-xdist, tests that need Ray come first: they take longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("ray") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests in one process, and all files that need Ray, which share one cluster.

    (xdist's own groups, `--dist loadgroup`, have no effect with pytest 9.2.)
    """
    from xdist.scheduler import LoadFileScheduling

    class ByCluster(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return "ray" if needs_ray(file) else file

    return ByCluster(config, log)


@cache
def needs_ray(file: str) -> bool:
    """Return whether a test of this file is marked as one that needs Ray."""
    return "mark.ray" in (ROOT / file).read_text()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray with two CPUs and no dashboard."""
    import ray

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(
        address="local",  # whatever else runs on this machine
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=512 * 1024**2,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    yield
    ray.shutdown()


def write_clip(path: Path, *, seconds: float = 4.0, seed: int = 0) -> Path:
    """Write a 160 x 96 h264 clip whose picture changes abruptly in the middle."""
    rng = np.random.default_rng(seed)
    textures = rng.integers(0, 256, (2, 12, 20, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    count = round(seconds * FPS)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(count):
            picture = np.roll(textures[int(i >= count / 2)], i, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def clip_writer() -> Callable[..., Path]:
    return write_clip


@pytest.fixture(scope="session")
def small_memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with archive/ and runs/memory: three indexed world videos of five scenes.

    archive/video1.mp4, and two of one name, which looks like markup, in a/ and b/; the one in b/
    has a caption that looks like markup, too.
    """
    import torch

    from tests.marc_core.memories import CAPTION, ODD_NAME, index_videos, world_archive

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("small")
    world_archive(root / "archive", seeds=(1, 2, 3))
    for folder, name in (("a", "video2.mp4"), ("b", "video3.mp4")):
        (root / "archive" / folder).mkdir()
        for file in (root / "archive").glob(f"{Path(name).stem}.*"):
            file.rename((root / "archive" / folder / ODD_NAME).with_suffix(file.suffix))
    subtitles = f"1\n00:00:00,200 --> 00:00:01,000\n{CAPTION} needle in the haystack\n"
    (root / "archive" / "b" / ODD_NAME).with_suffix(".srt").write_text(subtitles)
    index_videos(root / "archive", root / "runs" / "memory")
    return root


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two good clips and four bad files."""
    folder = tmp_path / "archive"
    for i in range(2):
        write_clip(folder / f"good{i}.mp4", seed=i)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is not a video\n" * 50)
    half = (folder / "good0.mp4").read_bytes()
    (folder / "sub").mkdir()
    (folder / "sub" / "half.mp4").write_bytes(half[: len(half) // 2])
    with av.open(str(folder / "audio.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.float32), "fltp", "mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return folder
