"""Long recordings in watched folders: laid out first, then each part is a job like a video.

    finished file --Job--> laid out, plan committed --jobs_of--> a Job a part --> committed
                                                                 the last has ended --> settled

What is published of a recording is searchable before all of it is. A recording that an earlier run
has begun goes on with the parts that it lacks.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from marc_core.config import IndexConfig
from marc_core.fingerprints import Fingerprints
from marc_core.memory import MemoryStore
from marc_core.memory.filters import quote
from marc_core.memory.parts import rows_of
from marc_core.schemas import PARTS_MISSING
from pipelines.live_workers import Job
from pipelines.recordings import missing_parts


class LongRecordings:
    """Which parts of which recordings are on their way."""

    def __init__(self, store: MemoryStore, fingerprints: Fingerprints, config: IndexConfig) -> None:
        self._store, self._fingerprints, self._config = store, fingerprints, config
        self._left: dict[str, set[str]] = {}
        ours = fingerprints.columns().items()
        self.begun = {
            row["video_id"]
            for row in store.video_states().to_pylist()
            if row["error_class"] == PARTS_MISSING and all(row[n] == value for n, value in ours)
        }
        """Recordings that an earlier run laid out as this one would."""

    def jobs_of(self, job: Job) -> list[Job]:
        """Return a job for each part that a recording lacks; settle it where it lacks none."""
        video_id = job.video.video_id
        found = pa.table({"video_id": [video_id], "source": [job.video.to_json()]})
        parts = rows_of(self._store.tables, f"video_id = {quote(video_id)}")
        work = missing_parts(parts, found, self._fingerprints, self._config).to_pylist()
        if not work:
            self._store.settle_parts([video_id])
        self._left[video_id] = {row["part"] for row in work}
        return [replace(job, part=row["part"], attempts=row["attempts"]) for row in work]

    def ended(self, job: Job) -> bool:
        """Take note that a part is committed; settle the recording and return True with the last.

        Repeating it changes nothing. Raises MemoryStoreError.
        """
        video_id = job.video.video_id
        left = self._left[video_id]
        left.discard(str(job.part))
        if left:
            return False
        self._store.settle_parts([video_id])
        return True
