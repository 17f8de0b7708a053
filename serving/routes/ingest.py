"""What comes into the archive and goes out of it: uploads, registrations, jobs, deletions."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Query, Request

from serving.access import Caller
from serving.errors import ApiError, not_found
from serving.gateway import Gateway, gateway_of, needs
from serving.request_schemas import RegisterRequest
from serving.schemas import Deleted, Job, JobPage
from serving.uploads import Uploads

router = APIRouter(prefix="/v1")
_deleting: set[asyncio.Task[Deleted]] = set()
_FILE = {"type": "string", "format": "binary", "minLength": 1}
_BODY = {
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _FILE}}}
}


def uploads_of(
    gateway: Gateway = Depends(gateway_of), caller: Caller = Depends(needs("ingest"))
) -> Uploads:
    """Return the uploads, for a caller who may add to all of the archive (a dependency)."""
    if gateway.uploads is None:
        message = "This server takes no uploads. Start it with uploads.folder=FOLDER."
        raise ApiError(403, "uploads_disabled", message)
    if caller.is_bound:
        message = "A key that sees a part of the archive cannot add to it."
        raise ApiError(403, "bound_key", message)
    return gateway.uploads


@router.post("/uploads", status_code=202, openapi_extra=_BODY)
async def upload(
    request: Request,
    name: str = Query(min_length=1, max_length=500, examples=["clip.mp4"]),
    gateway: Gateway = Depends(gateway_of),
    uploads: Uploads = Depends(uploads_of),
) -> Job:
    """Take a video file as the body, and index it in the background."""
    length = request.headers.get("content-length", "")
    said = int(length) if length.isdigit() else None
    return await uploads.receive(name, said, request.stream(), gateway.config.limits.body_stall_s)


@router.post("/videos", status_code=202)
async def register(body: RegisterRequest, uploads: Uploads = Depends(uploads_of)) -> Job:
    """Index a file, folder or bucket prefix where it lies, in the background."""
    return await asyncio.to_thread(uploads.register, body.uri)


@router.get("/jobs")
async def jobs(uploads: Uploads = Depends(uploads_of)) -> JobPage:
    """Jobs, the newest first; a hundred at most."""
    return JobPage(data=(await asyncio.to_thread(uploads.every_job))[:100])


@router.get("/jobs/{job_id}")
async def job(job_id: str, uploads: Uploads = Depends(uploads_of)) -> Job:
    """One job."""
    return await asyncio.to_thread(uploads.job, job_id)


@router.delete("/videos/{video_id}")
async def delete(
    video_id: str,
    gateway: Gateway = Depends(gateway_of),
    caller: Caller = Depends(needs("ingest")),
) -> Deleted:
    """Delete a video with everything derived of it, and its file where it was uploaded."""
    row = await gateway.soon(gateway.retriever.source(video_id, caller.bound))
    if row is None:
        raise not_found("video", video_id)
    deleting = asyncio.create_task(_delete(gateway, video_id, row["uri"]))
    _deleting.add(deleting)
    deleting.add_done_callback(_deleting.discard)
    return await asyncio.shield(deleting)  # to its end, also where the client leaves


async def _delete(gateway: Gateway, video_id: str, uri: str) -> Deleted:
    counts = await gateway.retriever.delete(video_id)
    gateway.media.forget(video_id)
    uploads = gateway.uploads
    gone = uploads is not None and await asyncio.to_thread(uploads.delete_file, uri)
    return Deleted(video_id=video_id, rows=counts, file_deleted=gone)
