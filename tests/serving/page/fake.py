"""A server that speaks the API's types over an archive in a dictionary: for states of the page that
a real one cannot show at will (slow, busy, refused, gone). Videos and pictures are real files."""

from __future__ import annotations

import asyncio
import io
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from serving.chat_schemas import ChatChunk, ChunkChoice, ChunkDelta, MarcReply, Tokens
from serving.page import router
from serving.request_schemas import ChatRequest, SearchRequest
from serving.schemas import (
    Deleted,
    ErrorBody,
    ErrorReply,
    Event,
    EventDetail,
    EventPage,
    EventText,
    Facets,
    Job,
    Progress,
    TextMatch,
    Video,
    VideoPage,
    WhoAmI,
)

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'"
)
TIME = "2026-05-01T08:00:00+00:00"


@dataclass
class FakeServer:
    """The archive, and what the next requests meet."""

    media: dict[str, Path]
    videos: dict[str, Video] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    scopes: list[str] = field(default_factory=lambda: ["admin", "ask", "ingest", "read"])
    keys: dict[str, list[str]] = field(default_factory=dict)
    """Scopes by key; empty: everybody may do what `scopes` says."""
    answer: list[str] = field(default_factory=lambda: ["It moves ", "to the ", "left."])
    errors: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """By path: status, code, message."""
    delay_s: float = 0.0
    """Before each piece of an answer, and each request for videos."""
    hold: bool = False
    """Whether answers stop after their first piece, and jobs wait, until this is False."""
    break_off: bool = False
    """Whether a stream ends without its last word."""
    jobs: dict[str, Iterator[Job]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def add(self, video_id: str, name: str, **more: Any) -> Video:
        """Add a video of the media files' first, with events of two seconds."""
        path = self.media.get(name) or next(iter(self.media.values()))
        with av.open(str(path)) as container:
            duration_s = float(container.duration or 0) / 1e6
        texts: list[str | None] = more.pop("texts", [])
        count = 0 if more.get("status", "indexed") != "indexed" else int(duration_s // 2)
        media = f"/v1/videos/{video_id}/media"
        video = Video(**{
            "video_id": video_id, "name": name, "uri": f"/archive/{name}", "status": "indexed",
            "duration_s": duration_s, "width": 320, "height": 320, "fps": 12.0, "codec": "h264",
            "size_bytes": path.stat().st_size, "num_events": count, "indexed_at": TIME,
            "media_url": media,
            "thumbnail_url": f"/v1/events/{video_id}:0/thumbnail" if count else None,
        } | more)  # fmt: skip
        self.videos[video_id] = video
        self.events[video_id] = [
            Event(
                event_id=f"{video_id}:{i}", video_id=video_id, name=name, uri=video.uri,
                start_s=2.0 * i, end_s=2.0 * i + 2, camera=video.camera, tags=video.tags,
                text=texts[i] if i < len(texts) else None, recorded_from=video.recorded_at,
                thumbnail_url=f"/v1/events/{video_id}:{i}/thumbnail",
                clip_url=f"{media}#t={2 * i:.3f},{2 * i + 2:.3f}",
            )
            for i in range(count)
        ]  # fmt: skip
        return video

    @property
    def all_events(self) -> list[Event]:
        return [event for events in self.events.values() for event in events]


def _error(status: int, code: str, message: str) -> JSONResponse:
    body = ErrorReply(error=ErrorBody(type="error", message=message, code=code))
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    return JSONResponse(body.model_dump(), status, headers)


def fake_app(fake: FakeServer) -> FastAPI:
    """Return the application."""
    app = FastAPI()
    app.include_router(router)

    def scopes_of(request: Request) -> list[str] | None:
        if not fake.keys:
            return fake.scopes
        return fake.keys.get(request.headers.get("authorization", "").removeprefix("Bearer "))

    @app.middleware("http")
    async def edge(request: Request, following: Any) -> Response:
        path = request.url.path
        is_link = path.endswith(("/thumbnail", "/media"))
        if path in fake.errors:
            response: Response = _error(*fake.errors[path])
        elif path.startswith("/v1/") and not is_link and scopes_of(request) is None:
            given = "authorization" in request.headers
            code = "invalid_api_key" if given else "missing_api_key"
            response = _error(401, code, "This key is not known." if given else "A key is needed.")
        else:
            response = await following(request)
        response.headers["Content-Security-Policy"] = CSP
        return response

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/whoami")
    def whoami(request: Request) -> WhoAmI:
        scopes: Any = scopes_of(request)
        name = "guest" if fake.keys else "anonymous"
        return WhoAmI(anonymous=not fake.keys, name=name, scopes=scopes, model="marc",
                      max_upload_bytes=10**9)  # fmt: skip

    _add_videos(app, fake)
    _add_events(app, fake)
    _add_questions(app, fake)
    _add_uploads(app, fake)
    return app


def _add_videos(app: FastAPI, fake: FakeServer) -> None:
    @app.get("/v1/facets")
    def facets() -> Facets:
        videos = list(fake.videos.values())
        return Facets(
            cameras=sorted({v.camera for v in videos if v.camera}),
            tags=sorted({tag for v in videos for tag in v.tags}),
            folders=["/archive"], num_videos=len(videos),
        )  # fmt: skip

    @app.get("/v1/videos")
    async def videos(
        limit: int = 20, offset: int = 0, name: str = "", camera: str = "", tag: str = "",
        status: str = "", folder: str = "",
    ) -> VideoPage:  # fmt: skip
        await asyncio.sleep(fake.delay_s)
        found = [
            v
            for v in fake.videos.values()
            if name.lower() in v.name.lower() and camera in (v.camera or "")
            and (not tag or tag in v.tags) and status in ("", v.status)
        ]  # fmt: skip
        page = found[offset : offset + limit]
        more = offset + limit < len(found)
        return VideoPage(
            data=page, has_more=more, next_offset=offset + limit if more else None, total=len(found)
        )

    @app.get("/v1/videos/{video_id}")
    def video(video_id: str) -> Any:
        found = fake.videos.get(video_id)
        return found or _error(404, "video_not_found", f"There is no video '{video_id}'.")

    @app.delete("/v1/videos/{video_id}")
    def delete(video_id: str) -> Deleted:
        video = fake.videos.pop(video_id)
        fake.events.pop(video_id)
        return Deleted(video_id=video_id, rows={}, file_deleted=video.uploaded)

    @app.get("/v1/videos/{video_id}/media")
    def media(video_id: str) -> FileResponse:
        name = fake.videos[video_id].name
        return FileResponse(fake.media.get(name) or next(iter(fake.media.values())))


def _add_events(app: FastAPI, fake: FakeServer) -> None:
    @app.get("/v1/videos/{video_id}/events")
    def events(video_id: str) -> EventPage:
        return EventPage(data=fake.events[video_id], has_more=False)

    @app.get("/v1/events/{event_id}")
    def event(event_id: str) -> Any:
        found = next(e for e in fake.all_events if e.event_id == event_id)
        texts = [] if found.text is None else [
            EventText(kind="speech", start_s=found.start_s, end_s=found.end_s, text=found.text)
        ]  # fmt: skip
        return EventDetail(**found.model_dump(), texts=texts)

    @app.get("/v1/events/{event_id}/thumbnail")
    def thumbnail(event_id: str) -> Response:
        found = next(e for e in fake.all_events if e.event_id == event_id)
        path = fake.media.get(found.name) or next(iter(fake.media.values()))
        return Response(_picture(path, found.start_s + 0.5), media_type="image/jpeg")


def _add_questions(app: FastAPI, fake: FakeServer) -> None:
    @app.post("/v1/search")
    def search(body: SearchRequest) -> EventPage:
        fake.asked.append(body.model_dump(exclude_defaults=True))
        ids = body.filter.video_ids
        found = [
            e.model_copy(update={"score": 0.5, "matches": _matches(e, body.text or "")})
            for e in fake.all_events
            if body.text != "nothing" and (ids is None or e.video_id in ids)
        ]
        page = found[body.offset : body.offset + body.limit]
        more = body.offset + body.limit < len(found)
        return EventPage(data=page, has_more=more, timings={"search": 0.021},
                         next_offset=body.offset + body.limit if more else None)  # fmt: skip

    @app.post("/v1/chat/completions")
    def chat(body: ChatRequest) -> StreamingResponse:
        fake.asked.append(body.model_dump(mode="json", exclude_defaults=True))
        return StreamingResponse(_lines(fake), media_type="text/event-stream")


def _matches(event: Event, query: str) -> list[TextMatch]:
    text = event.text or ""
    start = text.find(query) if query else -1
    if start < 0:
        return []
    return [
        TextMatch(kind="speech", start_s=event.start_s, end_s=event.end_s, text=text,
                  words=[(start, start + len(query))])
    ]  # fmt: skip


def _add_uploads(app: FastAPI, fake: FakeServer) -> None:
    @app.post("/v1/uploads", status_code=202)
    async def upload(name: str, request: Request) -> Job:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
        job_id = f"job-{len(fake.jobs)}"
        fake.jobs[job_id] = _steps(fake, job_id, name)
        return next(fake.jobs[job_id])

    @app.get("/v1/jobs")
    def jobs() -> dict[str, Any]:
        return {"object": "list", "data": []}

    @app.get("/v1/jobs/{job_id}")
    def job(job_id: str) -> Job:
        return next(fake.jobs[job_id])


def _steps(fake: FakeServer, job_id: str, name: str) -> Iterator[Job]:
    own: dict[str, Any] = {"job_id": job_id, "kind": "upload", "name": name, "created_at": TIME}
    yield Job(**own, status="queued")
    while fake.hold:
        yield Job(**own, status="queued")
    yield Job(**own, status="running", progress=Progress(done=0, failed=0, total=1))
    fake.add(f"up-{job_id}", name, uploaded=True)
    done = Progress(done=1, failed=0, total=1)
    yield from itertools.repeat(
        Job(**own, status="done", progress=done, video_ids=[f"up-{job_id}"])
    )


async def _lines(fake: FakeServer) -> AsyncIterator[str]:
    def line(delta: ChunkDelta, reason: Any = None, marc: MarcReply | None = None) -> str:
        choice = ChunkChoice(index=0, delta=delta, finish_reason=reason)
        chunk = ChatChunk(id="c", created=0, model="marc", choices=[choice], marc=marc)
        return f"data: {chunk.model_dump_json()}\n\n"

    yield line(ChunkDelta(role="assistant", content=""))
    for text in fake.answer:
        await asyncio.sleep(fake.delay_s)
        yield line(ChunkDelta(content=text))
        while fake.hold:
            await asyncio.sleep(0.02)
    if fake.break_off:
        return
    timings = {"embed": 0.009, "retrieve": 0.02, "features": 0.008, "compress": 0.001,
               "first_token": 0.011, "generate": 0.036, "total": 0.08}  # fmt: skip
    cited = [e.model_copy(update={"score": 0.4}) for e in fake.all_events[1:4]]
    marc = MarcReply(citations=cited, tokens=Tokens(before=135, after=9), retrieval="retrieved",
                     timings=timings, weights_version=0)  # fmt: skip
    yield line(ChunkDelta(), "stop", marc)
    yield "data: [DONE]\n\n"


def _picture(path: Path, at_s: float) -> bytes:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        frame = next((f for f in frames if f.time is not None and f.time >= at_s), None)
        image = (frame or next(av.open(str(path)).decode(video=0))).to_image()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@contextmanager
def running(app: Any, port: int = 0) -> Iterator[tuple[str, uvicorn.Server]]:
    """Serve an application in a thread; yield its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended before it started"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(10)
