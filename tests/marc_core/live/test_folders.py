"""Growing folders: files are taken when they are finished, once, whole."""

from __future__ import annotations

import os
from pathlib import Path

from marc_core.live.folders import FolderWatch, has_changed


def test_files_are_left_while_they_grow(tmp_path: Path) -> None:
    watch = FolderWatch(str(tmp_path), ["*.mp4"], {}, stable_s=5.0)
    (tmp_path / "a.mp4").write_bytes(b"1")
    assert watch.look(0.0) == []
    (tmp_path / "a.mp4").write_bytes(b"12")
    (tmp_path / "empty.mp4").touch()
    assert watch.look(4.0) == []
    assert watch.look(8.9) == []
    assert watch.waiting == 2
    (found,) = watch.look(9.0)
    assert (found.uri, found.size_bytes) == (str(tmp_path / "a.mp4"), 2)
    assert watch.look(20.0) == []
    assert not has_changed(found, {})
    (tmp_path / "a.mp4").write_bytes(b"123")
    os.utime(tmp_path / "a.mp4", ns=(1, 1))
    assert has_changed(found, {})
    assert watch.look(21.0) == []
    (again,) = watch.look(26.0)
    assert again.size_bytes == 3


def test_what_the_memory_knows_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"1")
    (known,) = FolderWatch(str(tmp_path), ["*.mp4"], {}, stable_s=0.0).look(0.0)
    watch = FolderWatch(str(tmp_path), ["*.mp4"], {}, stable_s=0.0, known=[known.video_id])
    assert watch.look(0.0) == []
