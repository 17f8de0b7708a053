"""Uploads and registered addresses, and the durable queue of jobs that index them.

    folder/files/<job>/<name>   the uploads
    folder/jobs/<job>.json      a job each: what it is, how far it is

A job is there when its file is; a gateway writes it, the indexer changes it. Both survive a
restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, Any

from marc_core.filenames import VIDEO_ENDINGS, canonical, is_below
from serving.config import UploadConfig
from serving.context import current
from serving.errors import ApiError, not_found
from serving.room import PART, STEP_BYTES, Room
from serving.schemas import Job

_JOB = re.compile(r"[0-9a-f]{32}")
_WRITE_BYTES = 1 << 20
"""Gathered before it is written (our choice)."""
_KEPT_JOBS = 1000
"""Finished jobs that are remembered (our choice)."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
ENDED = ("done", "failed")


class Uploads:
    """The folder of uploads and jobs."""

    def __init__(self, config: UploadConfig) -> None:
        self.config = config
        self.files = Path(os.path.abspath(config.folder)) / "files"
        self.jobs = Path(os.path.abspath(config.folder)) / "jobs"
        for folder in (self.files, self.jobs):
            folder.mkdir(parents=True, exist_ok=True)
        self.room = Room(self.files, config.total_bytes)

    def owns(self, uri: str) -> bool:
        """Return whether a video is an upload, whose file may be deleted."""
        return "://" not in uri and is_below(canonical(uri), canonical(str(self.files)))

    def delete_file(self, uri: str) -> bool:
        """Delete an upload's file; return whether there was one of ours and it is gone."""
        path, files = os.path.realpath(canonical(uri)), os.path.realpath(self.files)
        job_id, _, name = path.removeprefix(f"{files}/").partition("/")
        if not (
            self.owns(uri) and path.startswith(f"{files}/") and _JOB.fullmatch(job_id) and name
        ):
            return False
        found = os.path.exists(path)
        shutil.rmtree(self.files / job_id, ignore_errors=True)
        return found and not os.path.exists(path)

    async def receive(
        self, name: str, said_bytes: int | None, body: AsyncIterator[bytes], stall_s: float
    ) -> Job:
        """Write an upload to the disk as it comes, and queue it.

        said_bytes: what Content-Length says. Raises ApiError: 413 for a file that is too large, 507
        where the uploads together, or the disk, would be too full, 415 for a name that no video
        has, 408 where nothing comes, 503 where the queue is full.
        """
        name = file_name(name)
        self._check_size(said_bytes or 0)
        job_id = uuid.uuid4().hex
        folder = self.files / job_id
        try:
            with _kept():
                await asyncio.to_thread(folder.mkdir)
                part = folder / f".{job_id}{PART}"
                with open(part, "xb") as file:
                    await self._write(file, said_bytes or 0, body, stall_s)
                os.rename(part, folder / name)
                return await asyncio.to_thread(self._queue, job_id, "upload", name, folder / name)
        finally:
            if not (self.jobs / f"{job_id}.json").exists():
                shutil.rmtree(folder, ignore_errors=True)

    def register(self, uri: str) -> Job:
        """Queue an address below a root. Raises a 403 for any other, a 507 of a full disk."""
        address = self._allowed(uri)
        name = address.rstrip("/").rpartition("/")[2] or address
        with _kept(), self.room.alone():
            self._check_waiting(self.room.under_way())
            return self._queue(uuid.uuid4().hex, "register", name, address)

    def job(self, job_id: str) -> Job:
        """Return a job. Raises a 404."""
        return _shown(self._read(job_id))

    def every_job(self) -> list[Job]:
        """Return the jobs, the newest first."""
        return [_shown(job) for job in reversed(self._all())]

    # For the indexer and the collection of what has expired

    def busy(self) -> set[str]:
        """Return what a job waits for or is at work on."""
        return {job["uri"] for job in self._all() if job["status"] not in ENDED}

    def finished(self) -> Iterator[Path]:
        """Yield the uploads that have come whole."""
        return (f for f in self.files.glob("*/*") if not f.name.startswith("."))

    def next_job(self) -> dict[str, Any] | None:
        """Return the job that has waited longest."""
        return next((job for job in self._all() if job["status"] == "queued"), None)

    def update(self, job_id: str, **values: Any) -> None:
        """Change a job; it is written whole or not at all."""
        self._put({**self._read(job_id), **values})

    def take_up_again(self) -> None:
        """Queue what was under way when the indexer ended, and forget old jobs."""
        every = self._all()
        for job in every:
            if job["status"] == "running":
                self.update(job["job_id"], status="queued", progress=None)
        for job in [j for j in every if j["status"] in ENDED][:-_KEPT_JOBS]:
            (self.jobs / f"{job['job_id']}.json").unlink(missing_ok=True)

    async def _write(
        self, file: IO[bytes], said_bytes: int, body: AsyncIterator[bytes], stall_s: float
    ) -> None:
        """Write the body, never beyond what is reserved for it."""
        room_bytes = await asyncio.to_thread(self._admit, file, said_bytes)
        come_bytes, gathered = 0, bytearray()
        async for chunk in _in_time(body, stall_s, self.config.deadline_s):
            gathered += chunk
            come_bytes += len(chunk)
            self._check_size(come_bytes)
            if come_bytes > room_bytes:
                room_bytes = await asyncio.to_thread(self._more_room, file, come_bytes)
            if len(gathered) >= _WRITE_BYTES:
                await asyncio.to_thread(file.write, bytes(gathered))
                gathered.clear()
        if not come_bytes:
            raise ApiError(422, "invalid_value", "The upload is empty. Send the file as the body.")
        await asyncio.to_thread(_finish, file, bytes(gathered), come_bytes)

    def _admit(self, file: IO[bytes], said_bytes: int) -> int:
        with self.room.alone():
            self._check_waiting(self.room.under_way() - 1)
            return self.room.reserve(file, said_bytes, said_bytes)

    def _more_room(self, file: IO[bytes], least_bytes: int) -> int:
        wish_bytes = min(least_bytes + STEP_BYTES, self.config.max_bytes)
        with self.room.alone():
            return self.room.reserve(file, least_bytes, wish_bytes)

    def _check_size(self, size_bytes: int) -> None:
        most = self.config.max_bytes
        if size_bytes > most:
            raise ApiError(413, "too_large", f"An uploaded file may have {most:,} bytes.")

    def _check_waiting(self, coming: int) -> None:
        """Raise a 503 where as many jobs wait as may, with the uploads that are `coming`."""
        waiting = coming + sum(job["status"] == "queued" for job in self._all())
        if waiting >= self.config.max_waiting:
            message = f"{waiting} jobs wait already. Try again later."
            raise ApiError(503, "overloaded", message, retry_after_s=60)

    def _allowed(self, uri: str) -> str:
        """Return the address as it is indexed, links resolved, where a root allows it."""
        parts = uri.replace("\\", "/").split("/")
        if not uri.startswith("file:") and ".." not in parts and "\x00" not in uri:
            for root in self.config.roots:
                if "://" in root and is_below(canonical(uri), canonical(root)):
                    return uri
                if "://" not in root and uri.startswith("/"):
                    path = os.path.realpath(uri)
                    if is_below(canonical(path), canonical(os.path.realpath(root))):
                        return path
        message = "This address lies below none of the folders that may be registered."
        raise ApiError(403, "root_not_allowed", message, param="uri")

    def _queue(self, job_id: str, kind: str, name: str, uri: str | Path) -> Job:
        job = {
            "job_id": job_id, "kind": kind, "name": name, "uri": str(uri), "status": "queued",
            "progress": None, "message": None, "video_ids": [], "created_at": now(),
            "started_at": None, "ended_at": None, "request_id": current().request_id,
            "trace": dict(current().trace),
        }  # fmt: skip
        self._put(job)
        return _shown(job)

    def _put(self, job: dict[str, Any]) -> None:
        handle, part = tempfile.mkstemp(dir=self.jobs, suffix=".part")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(job, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.jobs / f"{job['job_id']}.json")
        except OSError:
            os.unlink(part)
            raise

    def _read(self, job_id: str) -> dict[str, Any]:
        if _JOB.fullmatch(job_id):
            with contextlib.suppress(FileNotFoundError):
                return dict(json.loads((self.jobs / f"{job_id}.json").read_text()))
        raise not_found("job", job_id)

    def _all(self) -> list[dict[str, Any]]:
        """Return all jobs, the oldest first."""
        found = []
        for path in self.jobs.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                found.append(json.loads(path.read_text()))
        return sorted(found, key=lambda job: (job["created_at"], job["job_id"]))


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Raise a 507 where what this block writes cannot be kept."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        message = f"It could not be kept: {error.strerror}. Whoever runs this server can mend it."
        raise ApiError(507, "storage_full", message) from error


async def _in_time(
    body: AsyncIterator[bytes], stall_s: float, most_s: float
) -> AsyncIterator[bytes]:
    """Yield the chunks of a body. Raises a 408 where none comes for so long, or all take longer."""
    chunks, ends_at = aiter(body), time.monotonic() + most_s
    while True:
        left_s = max(0.0, ends_at - time.monotonic())
        try:
            async with asyncio.timeout(min(stall_s, left_s)):
                chunk = await anext(chunks, None)
        except TimeoutError:
            message = f"No byte of the upload came for {stall_s:g} s."
            if left_s < stall_s:
                message = f"The upload took more than {most_s:g} s."
            raise ApiError(408, "stalled", message) from None
        if chunk is None:
            return
        yield chunk


def _finish(file: IO[bytes], rest: bytes, size_bytes: int) -> None:
    """Write the rest, give back what was reserved beyond it, and see it on the disk."""
    file.write(rest)
    file.flush()
    os.ftruncate(file.fileno(), size_bytes)
    os.fsync(file.fileno())


def file_name(name: str) -> str:
    """Return an upload's name as a file's: the last component, without what steers terminals.

    Raises a 415 for an ending that no video has.
    """
    last = re.split(r"[/\\]", name)[-1]
    clean = "".join(c for c in last if c.isprintable()).strip().lstrip(".")
    stem, _, ending = clean.rpartition(".")
    if not stem or ending.lower() not in VIDEO_ENDINGS:
        message = "An upload's name must end like a video's, such as clip.mp4."
        raise ApiError(415, "unsupported_type", message, param="name")
    return f"{stem.encode()[:200].decode(errors='ignore').replace('#', '_')}.{ending}"


def now() -> str:
    """Return the present moment as jobs carry it."""
    return dt.datetime.now(dt.UTC).isoformat()


def _shown(job: dict[str, Any]) -> Job:
    return Job(**{name: value for name, value in job.items() if name in Job.model_fields})
