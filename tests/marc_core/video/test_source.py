import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from marc_core.config import IndexConfig
from marc_core.errors import SourceError
from marc_core.text import read_sidecar
from marc_core.video import list_videos, local_copy

PATTERNS = IndexConfig().patterns


def touch(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a/z.MKV", "a/deep/c.webm", "notes.txt", ".hidden.mp4", ".cache/d.mp4"):
        touch(tmp_path / name, name.encode())
    return tmp_path


def test_folders_are_searched_recursively_in_the_order_of_names(tree: Path):
    found = list(list_videos([str(tree)], PATTERNS, {}))
    assert [s.uri for s in found] == [
        str(tree / "b.mp4"), str(tree / "a/z.MKV"), str(tree / "a/deep/c.webm"),
    ]  # fmt: skip
    assert found[0].size_bytes == 5
    assert found[0].version == str((tree / "b.mp4").stat().st_mtime_ns)
    assert len({s.video_id for s in found}) == 3


def test_a_named_file_is_taken_whatever_its_name_and_each_file_once(tree: Path):
    uris = [str(tree / "notes.txt"), str(tree), f"file://{tree}/b.mp4", str(tree / "a/../b.mp4")]
    names = [Path(s.uri).name for s in list_videos(uris, PATTERNS, {})]
    assert sorted(names) == ["b.mp4", "c.webm", "notes.txt", "z.MKV"]


def test_the_id_changes_with_the_content_version_only(tree: Path):
    (before,) = list_videos([str(tree / "b.mp4")], PATTERNS, {})
    (same,) = list_videos([f"file://{tree}/b.mp4"], PATTERNS, {})
    os.utime(tree / "b.mp4", ns=(1, 1))
    (after,) = list_videos([str(tree / "b.mp4")], PATTERNS, {})
    assert before == same
    assert before.video_id != after.video_id


def test_a_dangling_link_is_listed_and_fails_with_a_reason(tree: Path):
    (tree / "gone.mp4").symlink_to(tree / "nowhere.mp4")
    source = next(s for s in list_videos([str(tree)], PATTERNS, {}) if "gone" in s.uri)
    with pytest.raises(SourceError, match="no longer exists"), local_copy(source, {}):
        pass


@pytest.mark.parametrize(
    ("uri", "options", "words"),
    [
        ("/no/such/folder", {}, "does not exist. Name a folder"),
        ("http://example.org/v", {}, "Archives are local paths or file://"),
        ("ftp://host/v", {}, "Got 'ftp://host/v'"),
        ("file://host/v", {}, "no host"),
        ("s3://", {}, "names no bucket"),
        ("s3://b/v", {"endpoint": "x"}, "Got 'endpoint'"),
        ("s3://b/v", {"anonymous": "maybe"}, "true or false. Got 'maybe'"),
    ],
)
def test_clear_errors(uri, options, words):
    with pytest.raises(SourceError, match=words):
        list_videos([uri], PATTERNS, options)


def test_local_files_are_used_where_they_lie_and_changes_are_noticed(tree: Path):
    (source,) = list_videos([str(tree / "b.mp4")], PATTERNS, {})
    with local_copy(source, {}) as path:
        assert path == str(tree / "b.mp4")
    touch(tree / "b.mp4", b"still being written")
    with pytest.raises(SourceError, match="has changed since"), local_copy(source, {}):
        pass


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[object, dict[str, str]]]:
    """An S3 protocol server with an empty bucket `archive`."""
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"access_key": "key", "secret_key": "secret", "region": "us-east-1"}
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="archive")
    yield client, {**keys, "scheme": "http", "endpoint_override": f"{host}:{port}"}
    client.close()
    server.stop()


def test_object_store(bucket):
    client, options = bucket
    data = os.urandom(10_000_000)
    client.put_object(Bucket="archive", Key="day/one two.mp4", Body=data)
    client.put_object(Bucket="archive", Key="day/deep/b.MP4", Body=b"b")
    client.put_object(Bucket="archive", Key="day/notes.txt", Body=b"c")
    client.put_object(Bucket="archive", Key="day/one two.json", Body=b'{"camera": "gate"}')
    client.put_object(Bucket="archive", Key="day/one two.vtt", Body=b"00:01.0 --> 00:02.0\nhello")
    found = list(list_videos(["s3://archive/day/"], PATTERNS, options))
    found.sort(key=lambda source: source.uri)
    assert [s.uri for s in found] == ["s3://archive/day/deep/b.MP4", "s3://archive/day/one two.mp4"]
    again = list_videos(
        ["s3://archive/day", found[0].uri, "s3://archive/day/deep"], PATTERNS, options
    )
    assert sorted(again, key=lambda source: source.uri) == found
    with local_copy(found[1], options) as path:
        assert Path(path).read_bytes() == data
        assert path.endswith(".mp4")
    assert not Path(path).exists()
    sidecar = read_sidecar(found[1], options)
    assert (sidecar.camera, sidecar.text_between(0, 9)) == ("gate", "hello")
    client.put_object(Bucket="archive", Key="day/deep/b.MP4", Body=b"longer")
    with pytest.raises(SourceError, match="has changed"), local_copy(found[0], options):
        pass
    client.delete_object(Bucket="archive", Key="day/deep/b.MP4")
    with pytest.raises(SourceError, match="no longer exists"), local_copy(found[0], options):
        pass


@pytest.mark.parametrize("uri", ["s3://archive/nothing/here", "s3://no-such-bucket/x"])
def test_missing_prefix(bucket, uri):
    with pytest.raises(SourceError, match="does not exist"):
        list_videos([uri], PATTERNS, bucket[1])


def test_an_unreachable_store_is_a_clear_error():
    options = {
        "access_key": "k", "secret_key": "s", "region": "x", "scheme": "http",
        "endpoint_override": "127.0.0.1:9", "connect_timeout": "0.2", "request_timeout": "0.2",
    }  # fmt: skip
    with pytest.raises(SourceError, match="cannot be read"):
        list_videos(["s3://archive/day"], PATTERNS, options)
