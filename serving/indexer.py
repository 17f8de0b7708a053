"""The indexer: one job of the queue after the other, through the same pipeline as `marc index`.

    Uploads.next_job --> index_archive (Ray Data: its own actors, its own CPUs) --> the memory

It holds no CPU itself and takes one job at a time, so that answering keeps its share; of several
that share a folder of uploads, one works and the others wait for its end. A job that was under way
when it died is taken up again, and finds done what its commits hold. Between jobs it takes away
what has expired (serving.retention).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import fcntl
import logging
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from marc_core.config import IndexConfig, MethodConfig
from marc_core.errors import MarcError
from marc_core.memory import MemoryStore
from serving.context import Context
from serving.purging import Purger
from serving.retention import carry_out, make_plan
from serving.tracing import note, span
from serving.uploads import Uploads, now

if TYPE_CHECKING:
    from marc_core.config import AnswerConfig
    from serving.config import ServeConfig

log = logging.getLogger("marc.serving")

LOCK = "indexer.lock"
"""Held by the indexer that works on a folder of uploads."""
LOOK_S = 0.5
"""Between two looks at an empty queue (our choice)."""
TELL_S = 0.5
"""Between two reports of a job's progress (our choice)."""
UNWRITTEN_S = 5.0
"""Between two attempts where the queue cannot be written (our choice)."""
MOST_IDS = 100


class Indexer:
    """Works on the queue in a thread of its own. Needs an initialised Ray."""

    def __init__(self, config: ServeConfig, method: AnswerConfig) -> None:
        self.config, self.uploads, self.method = config, Uploads(config.uploads), method
        self._purger: Purger | None = None
        self._collect_at = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="marc-indexer", daemon=True)
        self._thread.start()

    def health(self) -> None:
        """Raise where the thread has ended."""
        if not self._thread.is_alive():
            raise RuntimeError("the indexer's thread has ended")

    def close(self) -> None:
        """End after the job that is under way."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        with open(self.uploads.jobs.parent / LOCK, "w") as file:
            if self._has(file):
                self._work_on_queue()

    def _has(self, file: IO[str]) -> bool:
        """Return True once no other indexer works on this queue, False where this one is to end
        before: two servers may share a folder, and a new replica may start before the old one has
        ended."""
        told = False
        while not self._closing.is_set():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if not told:
                    log.warning("another indexer works on %s; this one waits", file.name)
                told = True
                self._closing.wait(LOOK_S)
        return False

    def _work_on_queue(self) -> None:
        """Work until it is to end; where the folder cannot be written, begin anew after a while."""
        while not self._closing.is_set():
            try:
                self.uploads.take_up_again()
                self._take_jobs()
            except OSError as error:  # such as a full disk: the jobs wait
                log.error("the queue cannot be written: %s", error)
                self._closing.wait(UNWRITTEN_S)

    def _take_jobs(self) -> None:
        while not self._closing.is_set():
            job = self.uploads.next_job()
            if job is not None:
                self._work(job)
            elif time.monotonic() >= self._collect_at:
                self._collect_at = time.monotonic() + self.config.retention.every_s
                self._collect()
            else:
                self._closing.wait(LOOK_S)

    def _collect(self) -> None:
        """Take away what has expired; between two jobs, so that nothing is indexed meanwhile."""
        try:
            store = MemoryStore.open(self.method.memory)
            plan = make_plan(store, self.uploads, self.config, dt.datetime.now(dt.UTC))
            for one in plan.leaving:
                log.info("goes", extra=dataclasses.asdict(one))
            counts = carry_out(plan, store, self.uploads, self.config)
        except Exception:  # tried again next time
            log.exception("collecting what has expired")
            return
        if plan.video_ids:
            log.info("collected", extra={"deleted": counts})
            self._purger = self._purger or Purger(store)
            self._purger.want()

    def _work(self, job: dict[str, Any]) -> None:
        context = Context(request_id=job.get("request_id", ""), trace=job.get("trace", {}))
        with span("indexer.job", context, "CONSUMER"):
            self._do(job)

    def _do(self, job: dict[str, Any]) -> None:
        key, started = job["job_id"], time.perf_counter()
        self.uploads.update(key, status="running", started_at=now())
        try:
            values = self._index(job)
        except MarcError as error:
            values = {"status": "failed", "message": str(error)}
        except Exception as error:
            log.exception("indexing job %s", key)
            values = {"status": "failed", "message": f"An error of the server's own: {error}"}
        self.uploads.update(key, ended_at=now(), **values)
        note(job_id=key, kind=job["kind"], status=values["status"])
        log.info(
            "job",
            extra={
                "job_id": key,
                "kind": job["kind"],
                "status": values["status"],
                "progress": values.get("progress"),
                "seconds": round(time.perf_counter() - started, 4),
            },
        )

    def _index(self, job: dict[str, Any]) -> dict[str, Any]:
        import ray.data

        from pipelines.index import index_archive

        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        told_at = 0.0

        def tell(done: int, failed: int, total: int) -> None:
            nonlocal told_at
            if time.monotonic() >= told_at + TELL_S:
                told_at = time.monotonic()
                progress = {"done": done, "failed": failed, "total": total}
                with suppress(OSError):  # a full disk: the job goes on, its end is what counts
                    self.uploads.update(job["job_id"], progress=progress)

        report = index_archive(index_config(self.method, job["uri"]), tell)
        failed = report.failed + report.still_failing + report.quarantined
        store = MemoryStore.open(self.method.memory)
        rows = [row for row in [store.get_video(job["uri"])] if row is not None]
        return {
            "status": "done",
            "progress": {"done": report.found - failed, "failed": failed, "total": report.found},
            "video_ids": [row["video_id"] for row in rows][:MOST_IDS],
            "message": next((row["error_message"] for row in rows if row["error_class"]), None),
        }


def index_config(method: AnswerConfig, uri: str) -> IndexConfig:
    """Return the configuration that indexes an address as the memory was indexed."""
    own = {f.name: getattr(method, f.name) for f in dataclasses.fields(MethodConfig)}
    return IndexConfig(**own, archive=(uri,), write_interval_s=1.0)
