"""The video itself, with Range requests."""

from __future__ import annotations

import asyncio
import os

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from serving.access import Caller
from serving.errors import ApiError, not_found
from serving.gateway import Gateway, gateway_of, needs

router = APIRouter(prefix="/v1")


@router.head("/videos/{video_id}/media", include_in_schema=False)
@router.get(
    "/videos/{video_id}/media",
    response_class=FileResponse,
    response_model=None,
    responses={
        200: {"content": {"video/mp4": {}, "video/webm": {}, "application/octet-stream": {}}},
        206: {"description": "The part that Range asks for."},
        416: {"description": "The file has no such part."},
    },
)
async def media(
    video_id: str,
    gateway: Gateway = Depends(gateway_of),
    caller: Caller = Depends(needs("read", by_link=True)),
) -> FileResponse:
    """A video as browsers play it; Range is understood."""
    row = await gateway.soon(gateway.retriever.source(video_id, caller.bound))
    if row is None:
        raise not_found("video", video_id)
    found = await gateway.media.playable(row)
    try:
        state = await asyncio.to_thread(os.stat, found.path)
    except FileNotFoundError:  # deleted a moment ago
        raise ApiError(404, "media_not_found", "The video's file is gone.") from None
    response = _VideoFile(
        found.path,
        stat_result=state,
        media_type=found.type,
        headers={"Cache-Control": "private, max-age=3600", "Accept-Ranges": "bytes"},
    )
    response.chunk_size = gateway.config.media.chunk_bytes
    return response


class _VideoFile(FileResponse):
    """A file whose refusals of a Range have the form of every error."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: ApiError | None = None
        size = None

        async def watch(message: Message) -> None:
            nonlocal refused, size
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                code = "invalid_range" if message["status"] == 400 else "range_not_satisfiable"
                text = f"Range must be bytes=FROM-TO inside the file. Got '{asked[:100]}'."
                refused = ApiError(message["status"], code, text)
                size = dict(message["headers"]).get(b"content-range")
            elif refused is None:
                await send(message)

        asked = dict(scope["headers"]).get(b"range", b"").decode("latin-1")
        await super().__call__(scope, receive, watch)
        if refused is not None:
            response = refused.response()
            if size is not None:
                response.headers["Content-Range"] = size.decode("latin-1")
            await response(scope, receive, send)
