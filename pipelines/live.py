"""Live sources' way into the memory: from a closed segment to searchable, at once.

    camera --> recorder (a child process each) --closed segments--+
    folder --> FolderWatch (a thread each) ----finished files-----+--> inbox --> Watch
                                                                                  |  oldest first
                       LocalWorkers: this process   <-- jobs, a few at a time ----+
                       RayWorkers: actors           --- rows --> Writer --> the memory
                                                                   --> FollowingTexts

The stages are those of `pipelines.index`, with their models loaded once. What is not done when
`marc watch` ends lies in the folder of recordings, and the next start takes it up.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from marc_core.config import config_to_yaml
from marc_core.embed import encoder_facts
from marc_core.errors import MarcError, MemoryStoreError, SourceError
from marc_core.fingerprints import Fingerprints, fingerprints_of
from marc_core.live.addresses import SOURCE_TAG, checked, kind_of
from marc_core.live.config import SourceConfig, WatchJobConfig
from marc_core.live.folders import FolderWatch, has_changed
from marc_core.live.recorders import Inbox, RecorderProcess
from marc_core.live.retention import collect
from marc_core.memory import MemoryStore
from marc_core.memory.gaps import Gap
from marc_core.models.vision_tower import vision_fingerprint
from marc_core.schemas import INDEXED, PARTS_MISSING, QUARANTINED
from marc_core.types import VideoSource
from marc_core.video.listing import list_videos
from marc_core.video.source import local_source
from marc_core.video_rows import TRANSIENT_KINDS
from pipelines.live_parts import LongRecordings
from pipelines.live_state import Hooks, Searchable, SourceState, Waiting
from pipelines.live_text_makers import CACHE_BYTES, LocalTextMaker, RayTextMakers, TextMakers
from pipelines.live_texts import FollowingTexts
from pipelines.live_workers import Job, LocalWorkers, RayWorkers, Workers
from pipelines.running import without_credentials
from pipelines.stages import from_ipc
from pipelines.texts import StagesOn
from pipelines.writing import Writer, few_arenas

TICK_S = 0.2
"""Between two looks at everything (our choice)."""
LAST_S = 5.0
"""What is still in hand when `watch.end_s` are over may take so much longer (our choice)."""
MOST_AT_ONCE = 16
"""Videos in one commit at most, when many wait (our choice)."""
_WRITE_ERRORS = (MemoryStoreError, OSError, RuntimeError)
"""What a commit raises when a disk is full or a store is away; LanceDB's own are RuntimeErrors."""
_COLLECTING_SHARE = 0.05
"""Share of the time that looking for what has to go may take."""


class Watch:
    """Watches sources until told to stop. Needs an initialised Ray for `on_ray`."""

    def __init__(
        self, config: WatchJobConfig, *, on_ray: bool = False, hooks: Hooks | None = None
    ) -> None:
        self.config, self.hooks = config, hooks or Hooks()
        watch = config.watch
        self.sources = {
            name: checked(name, source, watch.allow) for name, source in watch.sources.items()
        }
        if not self.sources:
            raise SourceError("No source given. Name a camera: marc watch rtsp://camera/stream")
        if "://" in watch.folder:
            raise SourceError(
                f"watch.folder must be a folder that all nodes see. Got '{watch.folder}'."
            )
        Path(watch.folder).mkdir(parents=True, exist_ok=True)
        self.states = {name: SourceState() for name in self.sources}
        stages_on = StagesOn.of(config)
        few_arenas()
        self.store, fingerprints, dim = _open(config)
        self.writer = Writer(config, dim, self.store)
        self.workers: Workers
        makers: TextMakers
        if on_ray:
            self.workers = RayWorkers(config, fingerprints)
            makers = RayTextMakers(config, self.workers.most)
        else:
            self.workers, makers = LocalWorkers(config, fingerprints), LocalTextMaker(config)
        self.texts = FollowingTexts(config, stages_on, self.store, makers)
        self.inbox: Inbox = queue.SimpleQueue()
        self._waiting = Waiting()
        self._long = LongRecordings(self.store, fingerprints, config)
        self._gaps: list[Gap] = []
        self._given: set[str] = set()  # what is on its way
        self._collect_at = self._gaps_at = 0.0
        self._ending = False

    def run(self, stop: threading.Event) -> None:
        """Record and index until `stop`; then close segments and index what there is."""
        recorders: list[RecorderProcess] = []
        folders: list[threading.Thread] = []
        wait_s = 0.0
        try:
            for name, source in self.sources.items():
                if kind_of(source) == "folder":
                    folders.append(self._watch_folder(name, source, stop))
                else:
                    recorders.append(RecorderProcess(name, source, self.config.watch, self.inbox))
            while not stop.is_set():
                self._step(TICK_S)
                for recorder in recorders:
                    recorder.watch()
                self._collect_if_due()
            self._end(recorders, folders)
            wait_s = LAST_S
        finally:
            for recorder in recorders:
                recorder.stop()
                recorder.join(wait_s)
            self.workers.close(wait_s)
            self.texts.close()

    # What comes in

    def _take_up(self, name: str) -> None:
        """Queue the recordings that the memory does not hold: a watcher or recorder was killed."""
        folder = Path(self.config.watch.folder, name).resolve()
        known = self._given.union(self._known())
        for video in list_videos([str(folder)], ["*.mkv"], {}):
            if video.video_id not in known:
                self._give(self._job(name, video, is_live=True))

    def _known(self) -> Iterator[str]:
        """Yield the ids of videos that need nothing more."""
        for row in self.store.video_states().to_pylist():
            again = row["error_class"] in TRANSIENT_KINDS or row["error_class"] == PARTS_MISSING
            if row["status"] in (INDEXED, QUARANTINED) or not again:
                yield row["video_id"]

    def _give(self, job: Job) -> None:
        """Queue a new job; of a recording that was laid out before, its parts."""
        self.states[job.source].segments += 1
        self._given.add(job.video.video_id)
        if job.video.video_id in self._long.begun:
            self._give_parts(job)
        else:
            self._waiting.add(job)

    def _give_parts(self, job: Job) -> None:
        for part in self._long.jobs_of(job):
            self._waiting.add(part)

    def _watch_folder(
        self, name: str, source: SourceConfig, stop: threading.Event
    ) -> threading.Thread:
        config = self.config
        folder = FolderWatch(
            source.address, config.patterns, config.archive_options,
            stable_s=config.watch.stable_s, known=self._known(),
        )  # fmt: skip

        def loop() -> None:
            pause_s = 0.0
            while not stop.wait(pause_s):
                started = time.monotonic()
                try:
                    for video in folder.look(started):
                        self.inbox.put((name, {"what": "finished", "video": video}))
                    state = {"state": "watching", "reason": ""}
                except MarcError as error:
                    state = {"state": "waiting", "reason": str(error)}
                self.inbox.put((name, {"what": "state", **state}))
                pause_s = max(config.watch.poll_s, 10 * (time.monotonic() - started))

        thread = threading.Thread(target=loop, name=f"marc-{name}", daemon=True)
        thread.start()
        return thread

    def _job(self, name: str, video: VideoSource, **values: Any) -> Job:
        source = self.sources[name]
        tags = (f"{SOURCE_TAG}{name}", *source.tags)
        return Job(source=name, video=video, camera=source.camera, tags=tags, **values)

    def _hear(self, name: str, message: dict[str, Any]) -> None:
        state, what = self.states[name], message["what"]
        if what == "closed":
            path = Path(message["path"]).resolve()
            video = local_source(str(path), [path.with_suffix(".json").name])
            state.state, state.reason = "recording", ""
            if video.video_id not in self._given:
                until = dt.datetime.fromisoformat(message["until"])
                self._give(self._job(name, video, until=until, is_live=True))
        elif what == "locked":
            self._take_up(name)
        elif what == "finished":
            self._give(self._job(name, message["video"], mtime=self.sources[name].mtime))
        elif what == "gap":
            self._gap(name, message)
        elif what == "state":
            new = (message["state"], message["reason"])
            if new != (state.state, state.reason) and new[1]:
                self.hooks.say(f"{name}: {new[0]}: {new[1]}")
            state.state, state.reason = new

    def _gap(self, name: str, message: dict[str, Any]) -> None:
        since = dt.datetime.fromisoformat(message["from"])
        until = message["until"] and dt.datetime.fromisoformat(message["until"])
        self._gaps.append(Gap(name, since, until, message["reason"]))
        if until is not None and until != since:
            self.states[name].gaps += 1
            self.hooks.say(f"{name}: nothing from {since:%F %T} to {until:%F %T} UTC: "
                           f"{message['reason']}")  # fmt: skip

    # What goes on

    def _step(self, timeout_s: float) -> None:
        """Hear what has happened, give work, write what is done; wait a little for either."""
        for name, message in _all_of(self.inbox):
            self._hear(name, message)
        self._write_gaps()
        while self.workers.is_free:
            job = self._waiting.next(also_files=not self._ending)
            if job is None:
                break
            self.workers.start(job)
        done = self.workers.done(timeout_s, MOST_AT_ONCE)
        if done:
            self._write(done)
        else:
            self._write_texts(self.texts.gathered(at_once=self._ending))
        waits = bool(self._waiting.live or (self._waiting.files and not self._ending))
        is_idle = not (waits or self.workers.running or self._ending)
        self.texts.step(may_start=not waits, may_look=is_idle)

    def _write_texts(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        try:
            self.writer.commit(rows)
        except _WRITE_ERRORS as error:
            self._put_off([], error)
            self.texts.lost(rows, self.config.watch.retry_most_s)
        else:
            self.texts.written(rows)

    def _write(self, done: list[tuple[Job, dict[str, Any]]]) -> None:
        kept: list[tuple[Job, dict[str, Any]]] = []
        for job, row in done:
            if row["failed"] and has_changed(job.video, self.config.archive_options):
                self._given.discard(job.video.video_id)
                continue  # still being written: its next version is taken when it is finished
            kept.append((job, row))
        try:
            if kept:
                self.writer.commit([row for _, row in kept])
            ended = [self._ended(job, row) for job, row in kept]
        except _WRITE_ERRORS as error:
            self._put_off(kept, error)
            return
        for (job, _), video in zip(kept, ended, strict=True):
            if video is not None:
                self._count(job, video)
        self.texts.offer(v["video_id"] for v in ended if v and v["status"] == INDEXED)

    def _ended(self, job: Job, row: dict[str, Any]) -> dict[str, Any] | None:
        """Return the `videos` row of what is committed now; None where parts are missing yet."""
        if row["parts"] is None:
            videos: list[dict[str, Any]] = from_ipc(row["videos"]).to_pylist()
            return videos[0]
        if job.part is None:  # laid out
            self._give_parts(job)
            return None
        return self.store.get_video(row["video_id"]) if self._long.ended(job) else None

    def _put_off(self, done: list[tuple[Job, dict[str, Any]]], error: Exception) -> None:
        """Try these again later: the memory cannot be written now, and recording goes on."""
        first = (str(error).splitlines() or [type(error).__name__])[0]
        self.hooks.say(f"the memory cannot be written, tried again: {first}")
        at_s = time.monotonic() + self.config.watch.retry_most_s
        self._waiting.later += [(at_s, job) for job, _ in done]

    def _write_gaps(self) -> None:
        if not self._gaps or time.monotonic() < self._gaps_at:
            return
        try:
            self.store.record_gaps(self._gaps)
            self._gaps = []
        except _WRITE_ERRORS as error:
            self._put_off([], error)
            self._gaps_at = time.monotonic() + self.config.watch.retry_most_s

    def _count(self, job: Job, video: dict[str, Any]) -> None:
        state = self.states[job.source]
        self._given.discard(job.video.video_id)
        if video["status"] != INDEXED:
            state.failed += 1
            self.hooks.say(f"{job.source}: {job.video.uri}: {video['error_message']}")
            if video["error_class"] in TRANSIENT_KINDS and job.attempts < self.config.max_attempts:
                again = replace(job, attempts=job.attempts + 1, part=None)
                pause_s = self.config.watch.retry_most_s
                self._given.add(job.video.video_id)
                self._waiting.later.append((time.monotonic() + pause_s, again))
            return
        until = job.until
        if video["recorded_at"] is not None:
            until = video["recorded_at"] + dt.timedelta(seconds=video["duration_s"])
        state.indexed += 1
        state.events += video["num_events"]
        if until is not None:
            state.searchable_until = max(state.searchable_until or until, until)
        delay_s = None if until is None else (dt.datetime.now(dt.UTC) - until).total_seconds()
        self.hooks.searchable(
            Searchable(
                source=job.source, uri=job.video.uri, events=video["num_events"], until=until,
                delay_s=delay_s,
            )
        )  # fmt: skip

    def _collect_if_due(self) -> None:
        watch = self.config.watch
        if time.monotonic() < self._collect_at or not (watch.keep_days or watch.keep_bytes):
            return
        started = time.monotonic()
        try:
            counts = collect(self.store, watch, dt.datetime.now(dt.UTC))
            if counts["files"]:
                self.hooks.say(f"retention: {counts['files']:,} recordings and all of theirs gone")
        except _WRITE_ERRORS as error:
            self._put_off([], error)
        took_s = time.monotonic() - started
        self._collect_at = time.monotonic() + max(watch.collect_s, took_s / _COLLECTING_SHARE)

    def _end(self, recorders: list[RecorderProcess], folders: list[threading.Thread]) -> None:
        """Close segments, index what there is and make its texts, within `end_s`."""
        self._ending = True
        until_s = time.monotonic() + self.config.watch.end_s
        for recorder in recorders:
            recorder.stop()
        for recorder in recorders:
            recorder.join(max(0.1, min(LAST_S, until_s - time.monotonic())))
        for thread in folders:
            thread.join(max(0.1, until_s - time.monotonic()))
        self._step(0.0)
        while self._is_busy and time.monotonic() < until_s:
            self._step(TICK_S)

    @property
    def _is_busy(self) -> bool:
        return bool(self._waiting.live or self.workers.running or self.texts.left)

    @property
    def left(self) -> int:
        """Videos that are not indexed yet."""
        return len(self._waiting) + self.workers.running

    def report(self) -> dict[str, Any]:
        """Return how far all sources are, ready for JSON."""
        return {
            "sources": {name: asdict(state) for name, state in self.states.items()},
            "left": self.left,
            "texts": {
                "videos": self.texts.made,
                "failed": self.texts.failed,
                "left": self.texts.left + self.texts.put_off,
            },
            "memory": self.store.status(),
        }


def _open(config: WatchJobConfig) -> tuple[MemoryStore, Fingerprints, int]:
    """Open the memory, or make it, and note how it is filled."""
    encoder = encoder_facts(config.encoder)
    tower = vision_fingerprint(config.student) if config.memory.store_features else None
    store = MemoryStore.open(
        config.memory, embedding_dim=encoder.dim, encoder_fingerprint=encoder.fingerprint,
        create=True, cache_bytes=CACHE_BYTES,
    )  # fmt: skip
    store.complete_switch()
    plain = replace(config, watch=replace(config.watch, sources={}))  # addresses may hold passwords
    store.record_run(config_to_yaml(without_credentials(plain)))
    return store, fingerprints_of(config, encoder.fingerprint, tower), encoder.dim


def _all_of(inbox: Inbox) -> Iterator[tuple[str, dict[str, Any]]]:
    with contextlib.suppress(queue.Empty):
        while True:
            yield inbox.get_nowait()
