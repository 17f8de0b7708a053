"""The last step of the indexing chain: parcels of finished videos become commits of the memory.

    chain --> reader thread --> gather: 256 videos, 64 MB or 5 s --> Writer (an actor, up to 4)
              keeps at most     in the driver, as references;        publishes, one commit at a
              a few waiting     the data stay in the object store    time; the driver counts

A stage of Ray Data cannot do this: it sees a batch when it is full or the input has ended, and
what it kept for later would be lost with it. Here the driver holds the references until a commit is
done, so a writer that dies loses nothing, and the last rows go when the chain ends. Where commits
fall behind, the driver takes no more from the chain, and back-pressure holds its stages.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import ray

from marc_core.config import IndexConfig
from marc_core.errors import MarcError, MemoryStoreError
from pipelines.parcels import unwrap
from pipelines.stages import from_ipc

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore

MOST_WRITERS = 4
"""Writers of one job (our choice): commits to a table take turns, so more would only wait."""
AHEAD = 2
"""Commits given to a writer at once (our choice): it never waits for its next one."""
WRITER_CACHE_BYTES = 64 * 1024**2
"""Of each of LanceDB's caches in a writer (our choice): with its own limits a writer grew by 1 MB a
commit; with this one commits are as fast (docs/memory.md)."""
WRITER_ENV = {"MALLOC_ARENA_MAX": "2"}
"""A writer's environment: compaction's short-lived buffers come from many threads, and with an
arena of the C library for each its memory grew by 45 MB in a hundred commits, with two by 10."""
_M_ARENA_MAX = -8
"""glibc's number of that setting (malloc.h)."""
LOOK_EVERY_COMMITS = 10
"""After so many commits a writer looks whether compaction is due; a look takes 1 ms."""
Done = Callable[[int, int], None]
"""Called with (videos written, of them failed) after a commit."""


class Written(NamedTuple):
    """A commit: its videos, how many of them had failed, and, of those that were to be redone, why
    they keep what they have, by video id."""

    videos: int
    failed: int
    kept: Mapping[str, str] = {}


class Writer:
    """Holds the open memory for as long as the job lives; an actor.

    It makes thousands of commits, so it compacts on the way, and its caches are small.
    """

    def __init__(
        self, config: IndexConfig, embedding_dim: int, store: MemoryStore | None = None
    ) -> None:
        """store: the memory where it is open already."""
        from marc_core.memory import MemoryStore

        self.store = store or MemoryStore.open(
            config.memory, embedding_dim=embedding_dim, cache_bytes=WRITER_CACHE_BYTES
        )
        self.most_videos = config.write_videos
        self.commits = 0

    def write(self, parcels: list[Any]) -> Written:
        """Publish INDEXED parcels (references); return what became of their videos.

        Repeating it changes nothing. A parcel that was lost with its node is left out: its videos
        have no outcome then, and the next round takes them up.
        """
        rows = [row for table in _fetched(parcels) for row in unwrap(table).to_pylist()]
        for start in range(0, len(rows), self.most_videos):
            self.commit(rows[start : start + self.most_videos])
        failures = {row["video_id"]: row["failure"] for row in rows if row["failure"]}
        kept = {video_id: json.loads(why)["message"] for video_id, why in failures.items()}
        return Written(len(rows), sum(row["failed"] for row in rows), kept)

    def commit(self, rows: list[dict[str, Any]]) -> None:
        """Publish these INDEXED rows, and look after the memory from time to time."""
        self.write_parts([row for row in rows if row["parts"] is not None])
        rows = [row for row in rows if row["parts"] is None]
        self.redo([row for row in rows if row["videos"] is None])
        rows = [row for row in rows if row["videos"] is not None]
        done = [row for row in rows if not row["failed"]]
        if done:
            features = [from_ipc(row["features"]) for row in done if row["features"] is not None]
            self.store.publish(
                pa.concat_tables([from_ipc(row["videos"]) for row in done]),
                pa.concat_tables([from_ipc(row["events"]) for row in done]),
                pa.concat_tables(features) if features else None,
                pa.concat_tables([from_ipc(row["texts"]) for row in done]),
            )
        if len(done) < len(rows):
            self.store.record_failures(
                pa.concat_tables([from_ipc(row["videos"]) for row in rows if row["failed"]])
            )
        self.commits += 1
        if self.commits % LOOK_EVERY_COMMITS == 0:
            self.upkeep()

    def write_parts(self, rows: list[dict[str, Any]]) -> None:
        """Keep plans of recordings, and how parts of them ended: a commit for each that is done."""
        planned = [row for row in rows if row["videos"] is not None]
        if planned:
            videos, parts = (
                pa.concat_tables([from_ipc(row[name]) for row in planned])
                for name in ("videos", "parts")
            )
            self.store.plan_parts(videos, parts)
        failed = [from_ipc(row["parts"]) for row in rows if row["failed"]]
        if failed:
            self.store.record_failed_parts(pa.concat_tables(failed))
        for row in rows:
            if row["events"] is not None:
                features = None if row["features"] is None else from_ipc(row["features"])
                tables = (from_ipc(row[name]) for name in ("parts", "events"))
                self.store.publish_part(*tables, features, from_ipc(row["texts"]))

    def redo(self, rows: list[dict[str, Any]]) -> None:
        """Publish the features and texts of these INDEXED rows, stage their embeddings."""
        features = [from_ipc(row["features"]) for row in rows if row["features"]]
        if features:
            self.store.publish_features(pa.concat_tables(features))
        embeddings = [from_ipc(row["embeddings"]) for row in rows if row["embeddings"]]
        if embeddings:
            self.store.stage_embeddings(pa.concat_tables(embeddings))
        staged = [row for row in rows if row["stages"]]
        if staged:
            self.store.publish_stage_texts(
                pa.concat_tables([from_ipc(row["stages"]) for row in staged]),
                pa.concat_tables([from_ipc(row["texts"]) for row in staged]),
            )

    def upkeep(self) -> None:
        """Compact where it is due; where other writers kept winning, the next look tries again."""
        try:
            self.store.optimize_if_due()
        except MemoryStoreError as error:
            logging.getLogger(__name__).warning("Upkeep of the memory is put off: %s", error)


def start_writer(config: IndexConfig, embedding_dim: int) -> Any:
    """Start a writer; Ray restarts it where it dies, and repeats the commit that it had in hand."""
    actor = ray.remote(Writer).options(
        num_cpus=0.1,  # it mostly waits for the disk
        runtime_env={"env_vars": WRITER_ENV},
        max_restarts=-1,
        max_task_retries=config.max_attempts,
    )
    return actor.remote(config, embedding_dim)


def few_arenas() -> None:
    """Give this process, which writes itself, what `WRITER_ENV` gives an actor. glibc only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, int(WRITER_ENV["MALLOC_ARENA_MAX"]))


class Commits:
    """The driver's side: gathers parcels and gives them to writers, a commit at a time."""

    def __init__(self, start: Callable[[], Any], config: IndexConfig, done: Done) -> None:
        self.start, self.config, self.done = start, config, done
        self.writers = [start()]
        self.running: dict[Any, tuple[Any, int]] = {}  # reference -> writer, parcels
        self.gathered: list[Any] = []
        self.gathered_bytes = 0
        self.since_s = 0.0
        self.written_parcels = self.written_videos = 0
        self.kept: dict[str, str] = {}

    def run(self, bundles: Iterable[Any]) -> None:
        """Write all that comes; return when the last commit is done. Raises what one raised."""
        for bundle in with_pauses(bundles, self.config.write_interval_s / 10):
            if bundle is not None:
                self.gather(bundle)
            if self.due():
                self.give()
            self.collect(timeout_s=0)
        if self.gathered:
            self.give()
        while self.running:
            self.collect(timeout_s=None)

    def gather(self, bundle: Any) -> None:
        """Keep the references of a bundle of the chain."""
        if not self.gathered:
            self.since_s = time.monotonic()
        self.gathered += bundle.block_refs
        self.gathered_bytes += bundle.size_bytes()

    def due(self) -> bool:
        """Whether what is gathered fills a commit, or has waited long enough for one.

        How many videos a parcel holds is known to its reader only: the mean of those written tells.
        """
        videos = len(self.gathered) * max(1, self.written_videos / max(1, self.written_parcels))
        return bool(self.gathered) and (
            videos >= self.config.write_videos
            or self.gathered_bytes >= self.config.write_bytes
            or time.monotonic() - self.since_s >= self.config.write_interval_s
        )

    def give(self) -> None:
        """Give what is gathered to a writer; wait for one where all have enough to do."""
        while (writer := self.free_writer()) is None:
            self.collect(timeout_s=None)
        self.running[writer.write.remote(self.gathered)] = (writer, len(self.gathered))
        self.gathered, self.gathered_bytes = [], 0

    def free_writer(self) -> Any | None:
        """Return the writer with least to do, a new one where all are busy and more may be."""
        load = dict.fromkeys(self.writers, 0)
        for writer, _ in self.running.values():
            load[writer] += 1
        writer = min(self.writers, key=lambda w: load[w])
        if load[writer] < AHEAD:
            return writer
        if len(self.writers) < MOST_WRITERS:
            self.writers.append(self.start())
        return None

    def collect(self, *, timeout_s: float | None) -> None:
        """Count the commits that are done; wait `timeout_s` for the first, None: as long as it
        takes."""
        if not self.running:
            return
        ready, _ = ray.wait(list(self.running), num_returns=1, timeout=timeout_s)
        for reference in ready:
            written = _result(reference)
            _, parcels = self.running.pop(reference)
            self.written_parcels += parcels
            self.written_videos += written.videos
            self.kept |= written.kept
            self.done(written.videos, written.failed)

    def stop(self) -> None:
        """End the writers."""
        for writer in self.writers:
            ray.kill(writer)


def _result(reference: Any) -> Written:
    """Return what a commit returned; raise its MarcError as it was, without Ray's traceback."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MarcError):
            raise error.cause from None
        raise


def _fetched(references: list[Any]) -> list[pa.Table]:
    """Return these blocks without those that are lost."""
    try:
        return ray.get(references)
    except ray.exceptions.RayError:
        pass
    tables = []
    for reference in references:
        try:
            tables.append(ray.get(reference))
        except ray.exceptions.RayError as error:
            logging.getLogger(__name__).warning("A parcel was lost: %s", type(error).__name__)
    return tables


def with_pauses(items: Iterable[Any], pause_s: float) -> Iterator[Any | None]:
    """Yield `items` as they come, and None after each `pause_s` without one.

    A thread reads ahead by one item. Raises what `items` raised.
    """
    inbox: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)

    def read() -> None:
        try:
            for item in items:
                inbox.put(("item", item))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            inbox.put(("error", error))
        else:
            inbox.put(("end", None))

    threading.Thread(target=read, name="marc-chain", daemon=True).start()
    while True:
        try:
            kind, value = inbox.get(timeout=pause_s)
        except queue.Empty:
            yield None
            continue
        if kind == "end":
            return
        if kind == "error":
            raise value
        yield value
