"""Which videos an archive has: names of any bytes, folders that cannot be read, each file once."""

import os
import socket
from pathlib import Path

import pytest

from benchmarks.odd_media import write_numbers
from marc_core.config import IndexConfig, VideoConfig
from marc_core.errors import SourceError, UnreadableVideoError, VideoError
from marc_core.filenames import (
    VIDEO_ENDINGS,
    canonical,
    looks_like_video,
    matcher,
    shown,
    spellings,
    uri_of_path,
)
from marc_core.types import VideoSource
from marc_core.video import IsolatedDecoder, list_videos, local_copy, stream_source
from marc_core.video.source import locate

PATTERNS = IndexConfig().patterns

NAMES = [
    b"caf\xe9.mp4",  # Latin-1
    b"\xff\xfe.MP4",
    "日本 語.mov".encode(),
    "party \U0001f389.mp4".encode(),
    b"two\nlines.mp4",
    b"tab\t.mp4",
    b"#1.mp4",
    b"a#b?c%20d%.mp4",
    b"[bold]red[].mp4",
    b"-rf.mp4",
    b"--help.mp4",
    b"quote'\".mp4",
    b"back\\slash.mp4",
    b"a:b.mp4",
    b"UPPER.MOV",
    b" space .mp4",
]


def touch(path: bytes | Path) -> None:
    with open(path, "xb") as file:
        file.write(b"x")


def listed(*uris: object, patterns=PATTERNS) -> list[VideoSource]:
    return list(list_videos([str(uri) for uri in uris], patterns, {}))


def names(*uris: object) -> list[str]:
    return [os.path.basename(source.uri) for source in listed(*uris)]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_name_is_listed_printable_and_leads_back_to_its_bytes(tmp_path: Path, name: bytes):
    touch(os.path.join(os.fsencode(tmp_path), name))
    (source,) = listed(tmp_path)
    source.uri.encode()
    assert len(source.uri.splitlines()) == 1
    path = locate(source.uri, {}).path
    assert os.fsencode(path) == os.path.join(os.fsencode(tmp_path), name)
    assert listed(source.uri) == [source]
    assert VideoSource.from_json(source.to_json()) == source
    with local_copy(source, {}) as local:
        assert Path(os.fsencode(local).decode(errors="surrogateescape")).read_bytes() == b"x"
    if b"%" not in name:
        assert listed(f"file://{path}") == [source]


def test_ordinary_names_stay_plain_paths(tmp_path: Path):
    for name in ("日本 語.mov", "a#b?c%20d%.mp4", "[bold].mp4"):
        assert uri_of_path(str(tmp_path / name)) == str(tmp_path / name)


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"two\nlines.mp4", b"a#b?c%20d%.MP4"], ids=repr)
def test_files_of_any_name_are_decoded_and_named_in_errors(tmp_path: Path, name: bytes):
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    os.rename(write_numbers(tmp_path / "clip.mp4"), path)
    (source,) = listed(tmp_path)
    with IsolatedDecoder(VideoConfig()) as decoder:
        with local_copy(source, {}) as local, decoder.open(local) as stream:
            assert sum(len(chunk.times_s) for chunk in stream) == 30
        Path(path).write_bytes(b"no video")
        with pytest.raises(UnreadableVideoError) as caught:
            decoder.open(path)
    assert source.uri in str(caught.value)
    str(caught.value).encode()
    assert "\n" not in str(caught.value)


def test_a_folder_of_odd_bytes_and_what_lies_beside(tmp_path: Path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    touch(folder + b"/clip.mp4")
    touch(folder + b"/clip.srt")
    (source,) = listed(tmp_path)
    assert source.uri == f"file://{tmp_path}/caf%E9/clip.mp4"
    assert [file.uri for file in source.sidecars] == [f"file://{tmp_path}/caf%E9/clip.srt"]


def test_a_stream_s_address_is_never_a_file_s(tmp_path: Path):
    touch(tmp_path / "clip.mp4")
    touch(tmp_path / "clip.mp4#1")
    clip, named = listed(tmp_path / "clip.mp4", tmp_path / "clip.mp4#1")
    second = stream_source(clip, 1)
    assert (second.uri, second.file_uri, second.stream) == (f"{clip.uri}#1", clip.uri, 1)
    assert named.uri == f"file://{tmp_path}/clip.mp4%231"
    assert len({clip.video_id, second.video_id, named.video_id}) == 3
    assert stream_source(second, 0).video_id == clip.video_id
    for source in (clip, second, named):
        row = {n: getattr(source, n) for n in ("video_id", "uri", "size_bytes", "version")}
        assert VideoSource.of_row(row) == source
    with local_copy(second, {}) as path:
        assert path == str(tmp_path / "clip.mp4")


def test_each_file_is_listed_once(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/one.mp4", "a/b/two.mp4"):
        touch(tmp_path / name)
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self.mp4").symlink_to("self.mp4")
    everything = names(tmp_path, tmp_path / "a/b", tmp_path / "a/one.mp4", tmp_path / "again")
    assert sorted(everything) == ["one.mp4", "self.mp4", "two.mp4"]
    assert sorted(names(tmp_path / "a/b", tmp_path)) == ["one.mp4", "self.mp4", "two.mp4"]
    assert names(tmp_path / "a/b", tmp_path / "a/b") == ["two.mp4"]
    assert names(f"{tmp_path}/a/../a/one.mp4", tmp_path / "a/one.mp4") == ["one.mp4"]


def deep_folder(root: Path) -> Path:
    """Make folders whose whole path is longer than the system takes; return the first of them."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        inside = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(here)
    return root / ("d" * 250)


def test_a_folder_that_cannot_be_read_is_a_row_and_the_rest_goes_on(tmp_path: Path):
    deep_folder(tmp_path)
    (tmp_path / "z").mkdir()
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "z" / "last.mp4")
    found = listed(tmp_path)
    assert [os.path.basename(s.uri) for s in found] == ["a.mp4", "", "last.mp4"]
    folder = found[1]
    assert folder.uri.endswith("d/")
    too_long = "cannot be listed: File name too long"
    with pytest.raises(SourceError, match=too_long) as caught, local_copy(folder, {}):
        pass
    assert "or name the folders that it may read" in str(caught.value)
    assert listed(tmp_path) == found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_without_the_right_to_list_it(tmp_path: Path):
    (tmp_path / "shut").mkdir(mode=0)
    touch(tmp_path / "a.mp4")
    found = listed(tmp_path)
    assert [s.uri for s in found] == [str(tmp_path / "a.mp4"), f"{tmp_path}/shut/"]
    assert "Permission denied" in found[1].version
    (tmp_path / "shut").chmod(0o700)


def test_a_file_that_cannot_be_opened_is_the_source_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    touch(tmp_path / "a.mp4")
    (source,) = listed(tmp_path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("marc_core.video.source.open", refuse, raising=False)
    denied = pytest.raises(SourceError, match="cannot be read: Permission denied")
    with denied, local_copy(source, {}):
        pass


def test_a_folder_that_vanishes_while_listing(tmp_path: Path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        touch(tmp_path / name / f"{name}.mp4")
    listing = iter(list_videos([str(tmp_path)], PATTERNS, {}))
    assert next(listing).uri.endswith("a.mp4")
    (tmp_path / "b" / "b.mp4").unlink()
    (tmp_path / "b").rmdir()
    gone, last = listing
    assert gone.uri == f"{tmp_path}/b/"
    assert "No such file" in gone.version
    assert last.uri.endswith("c.mp4")


def test_an_address_that_does_not_exist_is_an_error_at_once(tmp_path: Path):
    with pytest.raises(SourceError, match="does not exist"):
        list_videos([str(tmp_path), str(tmp_path / "typo")], PATTERNS, {})


def test_a_listing_is_made_while_it_is_taken(tmp_path: Path):
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        touch(tmp_path / str(i) / "a.mp4")
    listing = iter(list_videos([str(tmp_path)], PATTERNS, {}))
    next(listing)
    touch(tmp_path / "2" / "later.mp4")
    assert [os.path.basename(s.uri) for s in listing] == ["a.mp4", "a.mp4", "later.mp4"]


def why_not(source: VideoSource, decoder: IsolatedDecoder) -> str:
    with (
        pytest.raises((SourceError, VideoError)) as caught,
        local_copy(source, {}) as path,
        decoder.open(path),
    ):
        pass
    return str(caught.value)


def test_what_is_no_file_says_so_and_never_hangs(tmp_path: Path):
    (tmp_path / "folder.mp4").mkdir()
    touch(tmp_path / "folder.mp4" / "inside.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "pipe.srt")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zero.mp4").touch()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)
        try:
            server.bind("socket.mp4")
        finally:
            os.chdir(here)
        reasons = {}
        with IsolatedDecoder(VideoConfig(stall_timeout_s=60)) as decoder:
            for source in listed(tmp_path):
                reasons[os.path.basename(source.uri)] = why_not(source, decoder)
        assert names(tmp_path / "pipe.mp4") == ["pipe.mp4"]
    assert reasons.keys() == {"inside.mp4", "pipe.mp4", "gone.mp4", "zero.mp4", "socket.mp4"}
    assert "is not a file" in reasons["pipe.mp4"]
    assert "is not a file" in reasons["socket.mp4"]
    assert "no longer exists" in reasons["gone.mp4"]
    assert "is empty" in reasons["zero.mp4"]


def test_files_like_videos_that_no_pattern_takes_are_counted(tmp_path: Path):
    like = {"b.lrv", "c.MP4.part", "d.mov.crdownload", "e.mkv"}
    for name in like | {"a.mp4", "notes.txt", "e.mkv.srt", ".f.mp4", "mp4", "part", "g.json"}:
        touch(tmp_path / name)
    listing = list_videos([str(tmp_path)], ("*.mp4",), {})
    assert [os.path.basename(s.uri) for s in listing] == ["a.mp4"]
    assert listing.ignored == len(like)
    assert set(listing.ignored_names) == like


def test_patterns():
    wanted = matcher(("*.MP4", "cam?_*.bin", "*.tar.mov"))
    assert all(map(wanted, ("a.mp4", "A.Mp4", "a.tar.mov", "cam1_.bin", "CAM2_x.BIN")))
    assert not any(map(wanted, ("a.mov", "cam1.bin", "mp4", "a.mp4.txt", ".a.mp4", "a.tar_mov")))
    assert matcher(("*",))("anything")


def test_every_default_pattern_looks_like_a_video():
    assert all(looks_like_video(f"clip.{ending}") for ending in VIDEO_ENDINGS)
    assert tuple(f"*.{ending}" for ending in VIDEO_ENDINGS) == PATTERNS


def test_names_in_messages():
    assert shown("/a/b.mp4") == "/a/b.mp4"
    assert shown(Path("/a/\udce9.mp4")) == "file:///a/%E9.mp4"


def test_what_a_listing_covers_however_it_is_written(tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"d\xe9")
    folder.mkdir()
    odd = f"file://{tmp_path}/d%E9"
    for root in (tmp_path, f"file://{tmp_path}", f"{tmp_path}/x/..", f"{tmp_path}/"):
        listing = list_videos([str(root)], PATTERNS, {})
        assert listing.covers(f"{odd}/")
        assert listing.covers(f"{odd}/caf%E9.mp4")
        assert listing.covers(f"{tmp_path}/a.mp4")
        assert listing.covers(str(tmp_path))
        assert not listing.covers(f"{tmp_path}x/a.mp4")
        assert not listing.covers(f"file://{tmp_path}x/d%E9/")
    inner = list_videos([odd], PATTERNS, {})
    assert inner.covers(f"{odd}/a.mp4")
    assert not inner.covers(f"{tmp_path}/a.mp4")


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("/a/b", "/a//b/"),
        ("/a/b", "/a/./c/../b"),
        ("/a/b", "file:///a/b"),
        ("/a/b c", "file:///a/b%20c"),
        ("/a/\udce9", "file:///a/%E9"),
        ("/a/100%25", "file:///a/100%2525"),
        ("gs://b/c", "gcs://b/c/"),
        ("az://b/c", "abfs://b/c"),
    ],
)
def test_spellings_of_one_place(address: str, same: str):
    assert canonical(address) == canonical(same)
    assert canonical(canonical(same)) == canonical(same)
    assert set(spellings(address)) == set(spellings(same))
    assert uri_of_path(address) in spellings(same)


@pytest.mark.parametrize(
    ("one", "other"), [("/a/b", "/a/B"), ("/a%20b", "/a b"), ("s3://b/a%20b", "s3://b/a b"),
                       ("s3://b/c", "gs://b/c"), ("s3://b/a/../c", "s3://b/c")]
)  # fmt: skip
def test_two_places(one: str, other: str):
    assert canonical(one) != canonical(other)
