"""Videos of a memory by the names that people give them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from marc_core.errors import AnswerError
from marc_core.filenames import file_names

if TYPE_CHECKING:
    from marc_core.memory import MemoryStore

_SHOWN = 5
"""Videos of one name that an error lists."""


def named_video(store: MemoryStore, name: str) -> dict[str, Any]:
    """Return the `videos` row of a video named by id, address, path or file name.

    Raises AnswerError where none is called so, or several are.
    """
    for candidate in (name, os.path.abspath(name)):
        row = store.get_video(candidate)
        if row is not None:
            return row
    rows = store.videos(columns=["video_id", "uri"]).to_pylist()
    same = [row for row in rows if name in file_names(row["uri"])]
    found = store.get_video(same[0]["video_id"]) if len(same) == 1 else None
    if found is not None:
        return found
    if same:
        listed = ", ".join(row["uri"] for row in same[:_SHOWN])
        more = f" and {len(same) - _SHOWN:,} more" if len(same) > _SHOWN else ""
        raise AnswerError(
            f"The memory has {len(same)} videos called '{name}': {listed}{more}. Name one by its "
            "id or uri."
        )
    raise AnswerError(
        f"The memory has no video '{name}'. `marc videos` lists what it holds; name a video by its "
        "id, its uri or its file name."
    )
