"""Search: by text, by an example image, or by an event."""

from __future__ import annotations

import base64
import binascii
import time

from fastapi import APIRouter, Depends

from serving.access import Caller
from serving.errors import ApiError
from serving.gateway import Gateway, gateway_of, needs
from serving.request_schemas import SearchRequest
from serving.schemas import EventPage
from serving.tracing import note_text

router = APIRouter(prefix="/v1")


@router.post("/search")
async def search(
    request: SearchRequest,
    gateway: Gateway = Depends(gateway_of),
    caller: Caller = Depends(needs("read")),
) -> EventPage:
    """Events that fit, best first."""
    started = time.perf_counter()
    query = request.to_query(caller.filter(request.filter.to_filter()), _image(request.image))
    note_text(search=request.text or "")
    rows = await gateway.soon(gateway.retriever.search(query, caller.bound))
    has_more = len(rows) > request.limit
    return EventPage(
        data=[gateway.event(row, caller) for row in rows[: request.limit]],
        has_more=has_more,
        next_offset=request.offset + request.limit if has_more else None,
        timings={"search": time.perf_counter() - started},
    )


def _image(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        message = "'image' must be a JPEG, PNG or WebP file in base64."
        raise ApiError(422, "invalid_value", message, param="image") from None
