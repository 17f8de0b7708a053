"""Texts of live videos: what is said and written in them follows their events.

    Watch --ids of videos that are searchable--> FollowingTexts --rows of TEXT_WORK--> TextMakers
          <--INDEXED rows, written when no events wait--   |  ^                            |
                                                           |  +------INDEXED rows----------+
                                     the memory: what lacks texts, in idle time

Events never wait for texts: work is given when no segment waits, makers have a low priority, and no
more than `watch.texts_waiting` videos wait for theirs. Beyond that the oldest are put off: they are
found in the memory when there is nothing else to do, also by the next start, and by `marc index
--only texts`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from marc_core.live.addresses import SOURCE_TAG
from marc_core.live.config import WatchJobConfig
from marc_core.memory import MemoryStore
from marc_core.memory.filters import is_in, quote
from marc_core.memory.stage_texts import OUTCOMES
from marc_core.memory.tables import scan
from marc_core.schemas import INDEXED, TEXTS
from pipelines import stages
from pipelines.live_text_makers import TextMakers
from pipelines.texts import TEXT_COLUMNS, StagesOn, lost_outcomes, text_work

GATHER_S = 2.0
"""Texts that are made are written together after so long (our choice: a commit takes 0.1 s)."""
MOST_AT_ONCE = 16
"""Videos whose texts are written together at most (our choice)."""
LOOKED_UP = 64
"""Videos without texts that one look into the memory takes along (our choice)."""
_LOOK_S = 5.0
"""Between two such looks (our choice); longer where a look takes long."""
_LOOKING_SHARE = 0.05
"""Share of the time that looking may take."""


class FollowingTexts:
    """Which videos get texts, and when. Nothing of it waits for anything."""

    def __init__(
        self, config: WatchJobConfig, stages_on: StagesOn, store: MemoryStore, makers: TextMakers
    ) -> None:
        self._stages, self.left_out = stages_on, tuple(stages_on.left_out)
        self._most, self._store, self._makers = config.watch.texts_waiting, store, makers
        tags = ", ".join(quote(f"{SOURCE_TAG}{name}") for name in config.watch.sources)
        self._ours = f"array_has_any(tags, [{tags}])"
        self._fresh: deque[str] = deque()
        self._old: deque[dict[str, Any]] = deque()
        self._tried: set[str] = set()
        self._made: list[dict[str, Any]] = []
        self._made_at = self._look_at = 0.0
        self._lacks = True  # an earlier run may have left some
        self.made = self.failed = self.put_off = 0

    def offer(self, video_ids: Iterable[str]) -> None:
        """Take note of videos that are searchable now; what is too much is put off."""
        if not self._stages.names:
            return
        self._fresh.extend(video_ids)
        while len(self._fresh) > self._most:
            self._fresh.popleft()
            self.put_off += 1
            self._lacks = True

    @property
    def left(self) -> int:
        """Videos whose texts are on the way."""
        return len(self._fresh) + self._makers.running + len(self._made)

    def step(self, *, may_start: bool, may_look: bool) -> None:
        """Take what is made; begin more where that is allowed, of the memory's where it is idle."""
        for row, made in self._makers.done():
            self._take(row, made)
        while may_start and self._makers.is_free:
            row = self._next(may_look)
            if row is None:
                return
            self._tried.add(row["video_id"])
            self._makers.start(row)

    def _take(self, row: dict[str, Any], made: dict[str, Any] | None) -> None:
        made = made or _lost(row)
        if made["failed"] and self._store.get_video(row["video_id"]) is None:
            return  # retention has taken it away
        self.failed += made["failed"]
        if made["stages"] is not None:
            self._made_at = self._made_at if self._made else time.monotonic()
            self._made.append(made)

    def gathered(self, *, at_once: bool = False) -> list[dict[str, Any]]:
        """Return INDEXED rows that are to be written now. at_once: do not wait for more."""
        waited_s = time.monotonic() - self._made_at
        if not at_once and len(self._made) < MOST_AT_ONCE and waited_s < GATHER_S:
            return []
        rows, self._made = self._made[:MOST_AT_ONCE], self._made[MOST_AT_ONCE:]
        return rows

    def written(self, rows: list[dict[str, Any]]) -> None:
        """Count texts that are searchable now."""
        done = {row["video_id"] for row in rows if not row["failed"]}
        self.made += len(done)
        self._tried -= done  # the memory says so now

    def lost(self, rows: list[dict[str, Any]], pause_s: float) -> None:
        """Take note that these could not be written; they are made again, not before `pause_s`."""
        self._tried -= {row["video_id"] for row in rows}
        self.put_off += len(rows)
        self._lacks = True
        self._look_at = time.monotonic() + pause_s

    def _next(self, may_look: bool) -> dict[str, Any] | None:
        while self._fresh:
            rows = self._lacking(is_in("video_id", [self._fresh.popleft()]))
            if rows:
                return rows[0]
        if not self._old and may_look and self._lacks and time.monotonic() >= self._look_at:
            self._look()
        if not self._old:
            return None
        self.put_off -= 1
        return self._old.popleft()

    def _look(self) -> None:
        """Find the latest videos of our sources that lack texts and were not tried by this run."""
        started = time.monotonic()
        rows = [row for row in self._lacking(self._ours) if row["video_id"] not in self._tried]
        rows.sort(key=lambda row: row["indexed_at"], reverse=True)
        self._old.extend(rows[:LOOKED_UP])
        self.put_off, self._lacks = len(rows), len(rows) > LOOKED_UP
        took_s = time.monotonic() - started
        self._look_at = time.monotonic() + max(_LOOK_S, took_s / _LOOKING_SHARE)

    def _lacking(self, condition: str) -> list[dict[str, Any]]:
        """Return the work on videos that fit the condition, are complete, and lack texts."""
        if not self._stages.names:
            return []
        wanted = f"{condition} AND num_events > 0 AND status = {quote(INDEXED)}"
        rows = scan(self._store.tables.videos, [*TEXT_COLUMNS, "indexed_at"], wanted)
        work = text_work(rows, self._stages.lacking(rows)).to_pylist()
        known = {row["video_id"]: row for row in rows.to_pylist()}
        names = ("duration_s", "indexed_at")
        return [row | {n: known[row["video_id"]][n] for n in names} for row in work]

    def close(self) -> None:
        """End those who make texts."""
        self._makers.close()


def _lost(row: dict[str, Any]) -> dict[str, Any]:
    """Return the INDEXED row of a video that took its maker along: a warning, no texts."""
    outcomes = pa.Table.from_pylist(lost_outcomes(row, row["kinds"]), schema=OUTCOMES)
    tables = {"stages": stages.to_ipc(outcomes), "texts": stages.to_ipc(TEXTS.empty_table())}
    plain: dict[str, Any] = dict.fromkeys(stages.INDEXED.names)
    return plain | {"video_id": row["video_id"], "failed": True, **tables}
