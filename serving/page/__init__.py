"""The page at `/`: static files, no build step. It shows what the API says, as any client could.

    index.html -> js/main.js -> ask | search | videos | video -> api.js -> /v1/...

It works under a Content-Security-Policy without inline script or style, and text of the server
never becomes markup: `js/dom.js` makes elements and text nodes only.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def page_files() -> dict[str, tuple[bytes, str, str]]:
    """Return the page's files by name: content, media type, ETag. Nothing else is ever sent."""
    root, found = Path(__file__).parent, {}
    for path in sorted(root.rglob("*")):
        if path.suffix in _TYPES:
            data = path.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            found[path.relative_to(root).as_posix()] = (data, _TYPES[path.suffix], tag)
    return found


@router.get("/")
@router.get("/icon.svg")
@router.get("/css/{name}")
@router.get("/js/{name}")
def file(request: Request) -> Response:
    """The page, or a file of it."""
    name = request.url.path.removeprefix(request.scope.get("root_path", "")).strip("/")
    name = name or "index.html"
    if name not in page_files():
        raise HTTPException(404, "There is no such file.")
    data, media_type, tag = page_files()[name]
    # Asked for every time, sent only when it has changed: an upgrade never mixes two versions.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)
