"""The archive: videos, their events, pictures, and what a filter may name."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from marc_core.question import EventFilter
from serving.access import Caller
from serving.errors import not_found
from serving.gateway import Gateway, gateway_of, needs
from serving.ports import VideoQuery
from serving.request_schemas import MAX_PAGE
from serving.schemas import EventDetail, EventPage, Facets, Video, VideoPage

router = APIRouter(prefix="/v1")

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Offset = Annotated[int, Query(ge=0, le=1_000_000)]
Word = Annotated[str | None, Query(min_length=1, max_length=1000)]


@router.get("/videos")
async def videos(
    limit: Limit = 20,
    offset: Offset = 0,
    status: Literal["indexed", "failed", "quarantined"] | None = None,
    camera: Word = None,
    tag: Word = None,
    folder: Word = None,
    name: Word = None,
    gateway: Gateway = Depends(gateway_of),
    caller: Caller = Depends(needs("read")),
) -> VideoPage:
    """Videos of the memory, by address."""
    query = VideoQuery(
        bound=caller.bound, status=status, camera=camera, tag=tag, folder=folder, name=name,
        limit=limit, offset=offset,
    )  # fmt: skip
    rows, total = await gateway.soon(gateway.retriever.videos(query))
    has_more = offset + len(rows) < total
    return VideoPage(
        data=[gateway.video(row, caller) for row in rows],
        has_more=has_more,
        next_offset=offset + limit if has_more else None,
        total=total,
    )


@router.get("/videos/{video_id}")
async def video(
    video_id: str,
    gateway: Gateway = Depends(gateway_of),
    caller: Caller = Depends(needs("read")),
) -> Video:
    """One video."""
    row = await gateway.soon(gateway.retriever.video(video_id, caller.bound))
    if row is None:
        raise not_found("video", video_id)
    return gateway.video(row, caller)


@router.get("/videos/{video_id}/events")
async def events(
    video_id: str,
    limit: Limit = MAX_PAGE,
    offset: Offset = 0,
    gateway: Gateway = Depends(gateway_of),
    caller: Caller = Depends(needs("read")),
) -> EventPage:
    """A video's events in order of time."""
    if await gateway.soon(gateway.retriever.video(video_id, caller.bound)) is None:
        raise not_found("video", video_id)
    filter = caller.filter(EventFilter(video_ids=(video_id,)))
    rows = await gateway.soon(gateway.retriever.events(filter, limit + 1, offset))
    has_more = len(rows) > limit
    return EventPage(
        data=[gateway.event(row, caller) for row in rows[:limit]],
        has_more=has_more,
        next_offset=offset + limit if has_more else None,
    )


@router.get("/events/{event_id}")
async def event(
    event_id: str,
    gateway: Gateway = Depends(gateway_of),
    caller: Caller = Depends(needs("read")),
) -> EventDetail:
    """One event with what is said in it."""
    row = await gateway.soon(gateway.retriever.event(event_id, caller.bound))
    if row is None:
        raise not_found("event", event_id)
    return gateway.event_detail(row, caller)


@router.get(
    "/events/{event_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "Not changed."}},
)
async def thumbnail(
    event_id: str,
    request: Request,
    gateway: Gateway = Depends(gateway_of),
    caller: Caller = Depends(needs("read", by_link=True)),
) -> Response:
    """An event's picture as a JPEG file."""
    data = await gateway.soon(gateway.retriever.thumbnail(event_id, caller.bound))
    if data is None:
        raise not_found("event", event_id)
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


@router.get("/facets")
async def facets(
    gateway: Gateway = Depends(gateway_of), caller: Caller = Depends(needs("read"))
) -> Facets:
    """Cameras, tags and folders that a filter may name."""
    return Facets(**await gateway.soon(gateway.retriever.facets(caller.bound)))
