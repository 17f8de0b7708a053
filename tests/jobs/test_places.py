"""Addresses in tables."""

from __future__ import annotations

import pytest

from jobs.places import below_root


@pytest.mark.parametrize(
    ("uris", "root", "names"),
    [
        (["/home/me/a/x.mp4", "/home/me/b/x.mp4"], "/home/me", ["a/x.mp4", "b/x.mp4"]),
        (["/home/me/a/x.mp4"], "/home/me/a", ["x.mp4"]),
        (["/a/x.mp4", "/b/x.mp4"], "", ["/a/x.mp4", "/b/x.mp4"]),
        (["s3://b/shut/a.mp4", "/b/shut/a.mp4"], "", ["s3://b/shut/a.mp4", "/b/shut/a.mp4"]),
        (["s3://b/k/1.mp4", "s3://b/k/2/1.mp4"], "s3://b/k", ["1.mp4", "2/1.mp4"]),
        ([], "", []),
    ],
)
def test_the_shared_folder_is_said_once(uris: list[str], root: str, names: list[str]) -> None:
    assert below_root(uris) == (root, dict(zip(uris, names, strict=True)))
