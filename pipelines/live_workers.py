"""What indexes live videos one by one, with its models loaded: a thread here, or Ray actors."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import pyarrow as pa

from marc_core.config import IndexConfig
from marc_core.fingerprints import Fingerprints
from marc_core.part_indexing import PartWork, failed_part
from marc_core.recorded.sources import TAG_MTIME
from marc_core.types import VideoSource
from marc_core.video_rows import failure_row
from pipelines.plan import LOST
from pipelines.stages import INDEXED, WORK, DecodeStage, EncodeStage, to_ipc

_AHEAD = 2
"""Videos given to a worker at once (our choice): it never waits for its next one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A video to index, or a part of one (PartWork as JSON).

    camera, tags: of its source, where no file beside it names a camera. mtime: what its time of
    change means, where nothing else says when it was recorded. is_live: recorded by us, just now or
    by an earlier run. until: its end on the wall clock, where the recorder told it.
    """

    source: str
    video: VideoSource
    camera: str
    tags: tuple[str, ...]
    mtime: Literal["ignore", "start", "end"] = "ignore"
    is_live: bool = False
    until: dt.datetime | None = None
    attempts: int = 1
    part: str | None = None


class Workers(Protocol):
    """Takes jobs, gives INDEXED rows (pipelines.stages)."""

    @property
    def is_free(self) -> bool:
        """Whether another job may be started."""
        ...

    @property
    def running(self) -> int:
        """Jobs that are started and not taken back."""
        ...

    def start(self, job: Job) -> None:
        """Begin a job."""
        ...

    def done(self, timeout_s: float, most: int) -> list[tuple[Job, dict[str, Any]]]:
        """Return jobs that are done, with their rows; wait `timeout_s` for the first."""
        ...

    def close(self, wait_s: float) -> None:
        """End the workers; what they have in hand may take so much longer, and is lost then."""
        ...


class VideoIndexer:
    """Decodes, cuts and encodes one video after the other."""

    def __init__(self, config: IndexConfig, fingerprints: Fingerprints) -> None:
        self.decode = DecodeStage(config)
        self.encode = EncodeStage(config, fingerprints)

    def index(self, job: Job) -> dict[str, Any]:
        """Return the INDEXED row of a video; a failure is a row, too."""
        row = {
            "video_id": job.video.video_id, "source": job.video.to_json(),
            "attempts": job.attempts, "part": job.part,
        }  # fmt: skip
        decoded = self.decode.one(pa.Table.from_pylist([row], schema=WORK))
        decoded = _with_clock(_with_source(decoded, job), job)
        indexed: dict[str, Any] = self.encode.one(decoded).to_pylist()[0]
        return indexed

    def kill(self) -> None:
        """End decoding under the hands of another thread, whose video fails then."""
        for pid in self.decode.child_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End what decodes."""
        self.decode.close()


def _with_source(decoded: pa.Table, job: Job) -> pa.Table:
    """Add what is known of the source to what the files beside the video say."""
    text = decoded["sidecar"][0].as_py()
    if text is None:
        return decoded
    said = json.loads(text)
    said["camera"] = said["camera"] or job.camera
    said["tags"] = list(dict.fromkeys([*said["tags"], *job.tags]))
    return _with_cell(decoded, "sidecar", said)


def _with_clock(decoded: pa.Table, job: Job) -> pa.Table:
    """Add what the time of change means to what the container says of its clock."""
    for name in ("summary", "layout"):
        text = decoded[name][0].as_py()
        if text is not None and job.mtime != "ignore":
            found = json.loads(text)
            found["info"]["clock_tags"][TAG_MTIME] = job.mtime
            decoded = _with_cell(decoded, name, found)
    return decoded


def _with_cell(decoded: pa.Table, name: str, value: dict[str, Any]) -> pa.Table:
    at = decoded.schema.get_field_index(name)
    return decoded.set_column(at, decoded.schema.field(at), pa.array([json.dumps(value)]))


class LocalWorkers:
    """One worker: a thread of this process, with its own decoding child. Without Ray."""

    def __init__(self, config: IndexConfig, fingerprints: Fingerprints) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Job, dict[str, Any] | BaseException]] = (
            queue.SimpleQueue()
        )
        self.running, self._closing = 0, False
        self._indexer = VideoIndexer(config, fingerprints)
        self._thread = threading.Thread(target=self._run, name="marc-indexer", daemon=True)
        self._thread.start()

    @property
    def is_free(self) -> bool:
        """Whether another job may be started."""
        return self.running < _AHEAD

    def start(self, job: Job) -> None:
        """Begin a job."""
        self.running += 1
        self._jobs.put(job)

    def done(self, timeout_s: float, most: int) -> list[tuple[Job, dict[str, Any]]]:
        """Return jobs that are done, with their rows. Raises our own bugs."""
        found: list[tuple[Job, dict[str, Any]]] = []
        try:
            while len(found) < most:
                job, row = self._done.get(timeout=0.0001 if found else max(timeout_s, 0.0001))
                self.running -= 1
                if isinstance(row, BaseException):
                    raise row
                found.append((job, row))
        except queue.Empty:
            pass
        return found

    def close(self, wait_s: float) -> None:
        """End the thread; a job that takes longer loses its decoder. Where it may take no time at
        all, the thread is left to the end of the process."""
        self._closing = True
        self._jobs.put(None)
        self._thread.join(wait_s)
        while self._thread.is_alive():
            self._indexer.kill()
            self._thread.join(1.0)
            if not wait_s:
                return
        self._indexer.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._closing:
                continue
            try:
                self._done.put((job, self._indexer.index(job)))
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asks
                self._done.put((job, error))


class RayWorkers:
    """Actors of a Ray cluster: one a GPU, or one for every CPU that is free; at least one."""

    def __init__(self, config: IndexConfig, fingerprints: Fingerprints) -> None:
        import ray

        from pipelines.pools import capacity, pool_sizes

        pools = pool_sizes(config, capacity())
        actor = ray.remote(VideoIndexer).options(
            num_cpus=config.decode_cpus,
            num_gpus=pools.encode_gpus,
            max_restarts=-1,
        )
        self._config, self._fingerprints = config, fingerprints
        self._make: Callable[[], Any] = lambda: actor.remote(config, fingerprints)
        pool = pools.encoders if pools.encode_gpus else pools.decoders
        self.most = max(1, config.decode_workers or pool.most)
        self._load: dict[Any, int] = {self._make(): 0}
        self._running: dict[Any, tuple[Any, Job]] = {}

    @property
    def running(self) -> int:
        """Jobs that are started and not taken back."""
        return len(self._running)

    @property
    def is_free(self) -> bool:
        """Whether another job may be started."""
        return self.running < _AHEAD * self.most

    def start(self, job: Job) -> None:
        """Begin a job on the actor with least to do; on a new one where all are busy."""
        actor = min(self._load, key=lambda one: self._load[one])
        if self._load[actor] and len(self._load) < self.most:
            actor = self._make()
            self._load[actor] = 0
        self._load[actor] += 1
        self._running[actor.index.remote(job)] = (actor, job)

    def done(self, timeout_s: float, most: int) -> list[tuple[Job, dict[str, Any]]]:
        """Return jobs that are done, with their rows; a job whose actor died is started again."""
        import ray

        if not self._running:
            time.sleep(timeout_s)
            return []
        ready, _ = ray.wait(
            list(self._running), num_returns=min(most, self.running), timeout=timeout_s
        )
        found = []
        for reference in ready:
            actor, job = self._running.pop(reference)
            self._load[actor] -= 1
            try:
                found.append((job, ray.get(reference)))
            except ray.exceptions.RayActorError:
                if job.attempts < self._config.max_attempts:
                    self.start(replace(job, attempts=job.attempts + 1))
                else:
                    found.append((job, self._lost(job)))
        return found

    def _lost(self, job: Job) -> dict[str, Any]:
        """Return the INDEXED row of a video that took its actors along."""
        common: dict[str, Any] = {
            "attempts": job.attempts, "max_attempts": self._config.max_attempts,
            "fingerprints": self._fingerprints,
        }  # fmt: skip
        failure = {"kind": "worker_lost", "message": LOST}
        if job.part is None:
            tables = {"videos": failure_row(job.video, **failure, **common)}
        else:
            part = PartWork.from_json(job.part)
            tables = {"parts": failed_part(job.video, part, failure, **common)}
        cells = {name: to_ipc(table) for name, table in tables.items()}
        plain: dict[str, Any] = dict.fromkeys(INDEXED.names)
        return plain | {"video_id": job.video.video_id, "failed": True, **cells}

    def close(self, wait_s: float) -> None:
        """End the actors."""
        import ray

        for actor in self._load:
            ray.kill(actor)
