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
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from marc_core.filenames import VIDEO_ENDINGS, canonical, is_below
from serving.config import UploadConfig
from serving.errors import ApiError, not_found
from serving.schemas import Job

_JOB = re.compile(r"[0-9a-f]{32}")
_WRITE_BYTES = 1 << 20
"""Gathered before it is written (our choice)."""
_KEPT_JOBS = 1000
"""Finished jobs that are remembered (our choice)."""
ENDED = ("done", "failed")


class Uploads:
    """The folder of uploads and jobs."""

    def __init__(self, config: UploadConfig) -> None:
        self.config = config
        self.files = Path(os.path.abspath(config.folder)) / "files"
        self.jobs = Path(os.path.abspath(config.folder)) / "jobs"
        for folder in (self.files, self.jobs):
            folder.mkdir(parents=True, exist_ok=True)

    def owns(self, uri: str) -> bool:
        """Return whether a video is an upload, whose file may be deleted."""
        return "://" not in uri and is_below(canonical(uri), canonical(str(self.files)))

    def delete_file(self, uri: str) -> bool:
        """Delete an upload's file; return whether there was one of ours."""
        path, files = os.path.realpath(canonical(uri)), os.path.realpath(self.files)
        job_id, _, name = path.removeprefix(f"{files}/").partition("/")
        if not (
            self.owns(uri) and path.startswith(f"{files}/") and _JOB.fullmatch(job_id) and name
        ):
            return False
        found = os.path.exists(path)
        shutil.rmtree(self.files / job_id, ignore_errors=True)
        return found

    async def receive(
        self, name: str, said_bytes: int | None, body: AsyncIterator[bytes], stall_s: float
    ) -> Job:
        """Write an upload to the disk as it comes, and queue it.

        said_bytes: what Content-Length says. Raises ApiError: 413 for too many bytes, 415 for a
        name that no video has, 408 where nothing comes, 503 where the queue or the disk is full.
        """
        name = file_name(name)
        self._check_room(said_bytes or 0)
        job_id = uuid.uuid4().hex
        folder = self.files / job_id
        folder.mkdir()
        try:
            with open(folder / f".{job_id}.part", "wb") as part:
                await self._write(part, body, stall_s)
            os.rename(folder / f".{job_id}.part", folder / name)
            return await asyncio.to_thread(self._queue, job_id, "upload", name, folder / name)
        except OSError as error:
            message = f"The upload could not be kept: {error.strerror}."
            raise ApiError(503, "storage_full", message, retry_after_s=60) from error
        finally:
            if not (self.jobs / f"{job_id}.json").exists():
                shutil.rmtree(folder, ignore_errors=True)

    def register(self, uri: str) -> Job:
        """Queue an address below a root. Raises a 403 for any other."""
        address = self._allowed(uri)
        self._check_waiting()
        name = address.rstrip("/").rpartition("/")[2] or address
        return self._queue(uuid.uuid4().hex, "register", name, address)

    def job(self, job_id: str) -> Job:
        """Return a job. Raises a 404."""
        return _shown(self._read(job_id))

    def every_job(self) -> list[Job]:
        """Return the jobs, the newest first."""
        return [_shown(job) for job in reversed(self._all())]

    # For the indexer

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

    async def _write(self, part: Any, body: AsyncIterator[bytes], stall_s: float) -> None:
        written, gathered = 0, bytearray()
        chunks = aiter(body)
        while True:
            try:
                async with asyncio.timeout(stall_s):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                message = f"No byte of the upload came for {stall_s:g} s."
                raise ApiError(408, "stalled", message) from None
            gathered += chunk or b""
            written += len(chunk or b"")
            self._check_size(written)
            if chunk is None or len(gathered) >= _WRITE_BYTES:
                await asyncio.to_thread(part.write, bytes(gathered))
                gathered.clear()
            if chunk is None:
                break
        if not written:
            raise ApiError(422, "invalid_value", "The upload is empty. Send the file as the body.")

    def _check_size(self, size_bytes: int) -> None:
        most = self.config.max_bytes
        if size_bytes > most:
            raise ApiError(413, "too_large", f"An uploaded file may have {most:,} bytes.")

    def _check_room(self, more_bytes: int) -> None:
        self._check_size(more_bytes)
        self._check_waiting()
        held = sum(f.stat().st_size for f in self.files.rglob("*") if f.is_file())
        if held + more_bytes > self.config.total_bytes:
            message = f"Uploads may take {self.config.total_bytes:,} bytes together. Delete some."
            raise ApiError(413, "too_large", message)

    def _check_waiting(self) -> None:
        waiting = sum(job["status"] == "queued" for job in self._all())
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
            "started_at": None, "ended_at": None,
        }  # fmt: skip
        self._put(job)
        return _shown(job)

    def _put(self, job: dict[str, Any]) -> None:
        handle, part = tempfile.mkstemp(dir=self.jobs, suffix=".part")
        with os.fdopen(handle, "w") as file:
            json.dump(job, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.jobs / f"{job['job_id']}.json")

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
    return Job(**{name: value for name, value in job.items() if name != "uri"})
