"""The folder of recordings: names, sidecars, what a killed recorder left.

    <folder>/<id>/2026-11-26/<id>-20261126T201530.120Z.mkv     a closed segment
                             <id>-20261126T201530.120Z.json    camera, tags, recorded_at
                             .<id>-20261126T201536.120Z.mkv    the open one: listings pass over it
    <folder>/<id>/.state.json     until when the source is recorded
    <folder>/<id>/.lock           held by the recorder that writes here

A closed segment and the file beside it are an ordinary video: `marc index <folder>` reads them too.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from marc_core.errors import SourceError
from marc_core.live.addresses import SOURCE_TAG

ENDING = ".mkv"
GONE = ".gone-"
"""How the name of a recording begins that retention is about to take away."""


def moment_of(wall_s: float) -> dt.datetime:
    """Return Unix seconds as a moment in UTC, to the millisecond."""
    return dt.datetime.fromtimestamp(round(wall_s, 3), dt.UTC)


class Spool:
    """The recordings of one source; one process writes there at a time."""

    def __init__(self, folder: str, source_id: str, camera: str, tags: tuple[str, ...]) -> None:
        self.root = Path(folder, source_id)
        self.source_id, self._camera, self._tags = source_id, camera, tags
        self.root.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Keep other recorders out. Raises SourceError where one is here already."""
        self._lock = (self.root / ".lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.unlock()
            raise SourceError(
                f"'{self.root}' is written by another `marc watch`. Stop that one, give this "
                "source another id, or name another watch.folder."
            ) from None

    def unlock(self) -> None:
        """Let another recorder in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def open_path(self, wall_s: float, clock: str) -> Path:
        """Return the path of a new open segment; what is known of it stands beside it at once."""
        moment = moment_of(wall_s)
        folder = self.root / moment.strftime("%Y-%m-%d")
        folder.mkdir(exist_ok=True)
        millis = f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"
        stem = f"{self.source_id}-{millis}"
        number = 1
        while (folder / f"{stem}{ENDING}").exists() or (folder / f".{stem}{ENDING}").exists():
            number += 1  # a clock that was put back comes to the same moment again
            stem = f"{self.source_id}-{millis}-{number}"
        tags = [f"{SOURCE_TAG}{self.source_id}", f"clock:{clock}", *self._tags]
        beside = {"camera": self._camera, "tags": tags, "recorded_at": moment.isoformat()}
        _write(folder / f"{stem}.json", json.dumps(beside))
        return folder / f".{stem}{ENDING}"

    def close(self, path: Path) -> Path:
        """Give a closed segment its name; return that."""
        closed = path.with_name(path.name.removeprefix("."))
        path.rename(closed)
        return closed

    def drop(self, path: Path) -> None:
        """Take away an open segment in which there is nothing."""
        path.unlink(missing_ok=True)
        path.with_name(path.name.removeprefix(".")).with_suffix(".json").unlink(missing_ok=True)

    def start_of(self, path: Path) -> float:
        """Return when a segment begins, Unix seconds."""
        beside = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return dt.datetime.fromisoformat(beside["recorded_at"]).timestamp()

    def left_open(self) -> Iterator[Path]:
        """Yield the open segments that a recorder left when it was killed. Needs the lock."""
        yield from sorted(self.root.glob(f"*/.{self.source_id}-*{ENDING}"))

    @property
    def recorded_until_s(self) -> float | None:
        """Until when, in Unix seconds of its clock, the source is recorded; None: never was."""
        try:
            state = json.loads((self.root / ".state.json").read_text(encoding="utf-8"))
            return float(state["recorded_until_s"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @recorded_until_s.setter
    def recorded_until_s(self, wall_s: float) -> None:
        _write(self.root / ".state.json", json.dumps({"recorded_until_s": wall_s}))


def _write(path: Path, text: str) -> None:
    """Write a small file so that readers see all of it or none."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
