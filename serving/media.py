"""Videos as browsers play them: the file itself, or a copy that was made for them.

    video -> local file that browsers play -----------------------> sent as it is
          -> anything else --one child process (serving.convert)--> cache --> sent

Requests for one video share its conversion. The cache is bounded: what was played longest ago goes
first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marc_core.errors import SourceError
from marc_core.types import VideoSource
from marc_core.video.source import local_copy, locate
from serving.config import MediaConfig
from serving.errors import ApiError
from serving.ports import Row

CHILD_BYTES = 4 * 1024**3
"""Address space of a conversion (our choice, as for decoding)."""
_KEPT_VERDICTS = 10_000
_UNPLAYABLE = "Browsers cannot play this video, and no copy could be made:"


@dataclass(frozen=True, slots=True)
class Playable:
    """A file to send, and its type."""

    path: str
    type: str


class Media:
    """Makes videos playable. options: of the archive's object stores."""

    def __init__(self, config: MediaConfig, options: Mapping[str, str]) -> None:
        self.config, self._options = config, options
        self._own = None if config.cache_folder else tempfile.mkdtemp(prefix="marc-media-")
        self.folder = Path(config.cache_folder or self._own or "")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._types: dict[str, str] = {}
        self._under_way: dict[str, asyncio.Task[Playable]] = {}

    async def playable(self, row: Row) -> Playable:
        """Return what browsers play of a video.

        Raises ApiError: 404 where its file is gone or has changed, 415 where nothing can be made of
        it, 503 where as many conversions run as may.
        """
        source = VideoSource.of_row(row)
        found = self._known(source)
        if found is not None:
            return found
        task = self._under_way.get(source.video_id)
        if task is None:
            if len(self._under_way) >= self.config.conversions:
                message = "Another video is being prepared for playing. Try again in a moment."
                raise ApiError(503, "overloaded", message, retry_after_s=2)
            task = asyncio.create_task(self._make(source))
            self._under_way[source.video_id] = task
            task.add_done_callback(lambda _: self._ended(source.video_id, task))
        return await asyncio.shield(task)

    def forget(self, video_id: str) -> None:
        """Delete the copy of a video, and one that is being made when it is made."""
        self._under_way.pop(video_id, None)
        self._types.pop(video_id, None)
        self._cached(video_id).unlink(missing_ok=True)

    def sweep(self) -> list[str]:
        """Delete the copies that nobody has played for `keep_days`; return the videos whose copies
        are left."""
        left = []
        for file in self.folder.glob("*.video"):
            with contextlib.suppress(FileNotFoundError):
                unplayed_s = time.time() - file.stat().st_mtime
                if 0 < self.config.keep_days < unplayed_s / 86_400:
                    self.forget(file.stem)
                else:
                    left.append(file.stem)
        return left

    def close(self) -> None:
        """Delete a cache of the process's own."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    def _ended(self, video_id: str, task: asyncio.Task[Playable]) -> None:
        if self._under_way.get(video_id) is task:
            del self._under_way[video_id]

    def _cached(self, video_id: str) -> Path:
        return self.folder / f"{video_id}.video"

    def _known(self, source: VideoSource) -> Playable | None:
        kind, copy = self._types.get(source.video_id), self._cached(source.video_id)
        if kind is None:
            return None
        if copy.exists():
            with contextlib.suppress(FileNotFoundError):
                os.utime(copy)
                return Playable(str(copy), kind)
        place = locate(source.file_uri, self._options)
        try:
            state = os.stat(place.path) if place.store is None else None
        except OSError:
            return None
        same = state is not None and state.st_size == source.size_bytes
        return Playable(place.path, kind) if same and source.stream == 0 else None

    async def _make(self, source: VideoSource) -> Playable:
        part = self.folder / f".{source.video_id}.part"
        try:
            with contextlib.ExitStack() as stack:
                path = await asyncio.to_thread(self._fetch, stack, source)
                answer = await self._convert(path, part, source.stream)
                forgotten = self._under_way.get(source.video_id) is not asyncio.current_task()
                if forgotten or not os.path.exists(path):
                    raise ApiError(404, "media_not_found", "The video was deleted meanwhile.")
                if "error" in answer:
                    raise ApiError(415, "unsupported_type", f"{_UNPLAYABLE} {answer['error']}")
                copy = self._cached(source.video_id)
                if answer["made"]:
                    os.replace(part, copy)
                elif path != locate(source.file_uri, self._options).path:
                    await asyncio.to_thread(shutil.copyfile, path, part)
                    os.replace(part, copy)
                while len(self._types) >= _KEPT_VERDICTS:
                    self._types.pop(next(iter(self._types)))
                self._types[source.video_id] = answer["type"]
                await asyncio.to_thread(self._trim, copy)
                return Playable(str(copy) if copy.exists() else path, answer["type"])
        finally:
            part.unlink(missing_ok=True)

    def _fetch(self, stack: contextlib.ExitStack, source: VideoSource) -> str:
        try:
            return stack.enter_context(local_copy(source, self._options))
        except SourceError as error:
            raise ApiError(404, "media_not_found", str(error)) from error

    async def _convert(self, path: str, part: Path, stream: int) -> dict[str, Any]:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "serving.convert",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, env=_environment(),
        )  # fmt: skip
        request = {
            "source": path, "target": str(part), "stream": stream, "convert": self.config.convert,
            "memory_bytes": CHILD_BYTES,
        }  # fmt: skip
        try:
            async with asyncio.timeout(self.config.convert_deadline_s):
                said, _ = await child.communicate(json.dumps(request).encode() + b"\n")
        except TimeoutError:
            said = b""
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        return dict(json.loads(said) if said else {"error": "it took too long, or died"})

    def _trim(self, newest: Path) -> None:
        """Delete what was played longest ago until the cache fits; never what was just made."""
        files = [(f, f.stat()) for f in self.folder.glob("*.video")]
        total = sum(state.st_size for _, state in files)
        for file, state in sorted(files, key=lambda item: item[1].st_mtime):
            if total <= self.config.cache_bytes:
                return
            if file != newest:
                file.unlink(missing_ok=True)
                total -= state.st_size


def _environment() -> dict[str, str]:
    """Let the child import what this process imports, and nothing of its secrets."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
