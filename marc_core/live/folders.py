"""A folder or bucket prefix into which a recorder writes: files are taken when they are finished.

Whether a file is finished nobody can see, so it is finished when size and time of change have
stayed for `stable_s`. One that changes later is a new version of its video, taken as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from marc_core.errors import SourceError
from marc_core.types import VideoSource
from marc_core.video.listing import list_videos
from marc_core.video.source import is_unreadable, local_source, locate, store_source


class FolderWatch:
    """What is new and finished in a folder. `look` again and again."""

    def __init__(
        self,
        address: str,
        patterns: Iterable[str],
        options: Mapping[str, str],
        *,
        stable_s: float,
        known: Iterable[str] = (),
    ) -> None:
        self._address, self._patterns, self._options = address, tuple(patterns), options
        self._stable_s = stable_s
        self._taken = set(known)
        self._since: dict[str, float] = {}  # video_id -> first seen; the id changes with the file
        self.waiting = 0

    def look(self, now_s: float) -> list[VideoSource]:
        """Return the videos that are finished by now and were not returned yet, oldest first.

        now_s: of a clock that only goes forward. Raises SourceError where the folder is missing.
        """
        found = [
            source
            for source in list_videos([self._address], self._patterns, self._options)
            if not is_unreadable(source)
        ]
        present = {source.video_id for source in found}
        self._taken &= present  # what is gone, or has changed, may come back
        new = [source for source in found if source.video_id not in self._taken]
        self._since = {s.video_id: self._since.get(s.video_id, now_s) for s in new}
        until_s = now_s - self._stable_s
        done = [s for s in new if self._since[s.video_id] <= until_s and s.size_bytes]
        self._taken |= {source.video_id for source in done}
        self.waiting = len(new) - len(done)
        return sorted(done, key=lambda source: (source.version.zfill(20), source.uri))


def has_changed(source: VideoSource, options: Mapping[str, str]) -> bool:
    """Return whether a file is another one by now: then a failure says nothing of it. False where
    that cannot be seen."""
    place = locate(source.file_uri, options)
    try:
        if place.store is None:
            now = local_source(place.path)
        else:
            now = store_source(place, place.store.get_file_info(place.path))
    except (OSError, SourceError):
        return False
    return (now.size_bytes, now.version) != (source.size_bytes, source.version)
