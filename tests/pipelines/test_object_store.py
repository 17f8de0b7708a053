"""An archive in a bucket and a memory in a bucket, over the S3 protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marc_core.config import IndexConfig, load_config
from marc_core.memory import MemoryStore
from pipelines.index import index_archive

pytestmark = pytest.mark.usefixtures("chains")


@pytest.fixture
def endpoint(tmp_path: Path, clip_writer: Callable[..., Path]) -> Iterator[str]:
    """A moto server with bucket `archive`: a clip with captions, a broken one; and `memories`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="key", aws_secret_access_key="hidden-secret",
        region_name="us-east-1",
    )  # fmt: skip
    for bucket in ("bucket-archive", "bucket-memories"):
        client.create_bucket(Bucket=bucket)
    client.upload_file(str(clip_writer(tmp_path / "clip.mp4")), "bucket-archive", "day 1/clip.mp4")
    subtitles = "1\n00:00:02,500 --> 00:00:03,500\nthe second shot\n"
    client.put_object(Bucket="bucket-archive", Key="day 1/clip.srt", Body=subtitles.encode())
    metadata = json.dumps({"camera": "gate", "tags": ["night"]})
    client.put_object(Bucket="bucket-archive", Key="day 1/clip.json", Body=metadata.encode())
    client.put_object(Bucket="bucket-archive", Key="broken.mp4", Body=b"no video")
    client.close()
    yield url
    server.stop()


def test_bucket_to_bucket(endpoint: str) -> None:
    config = load_config(
        IndexConfig,
        preset="tiny",
        overrides=[
            "text.speech=off", "text.writing=off",
            "archive=['s3://bucket-archive']", "memory.uri='s3://bucket-memories/m'",
            ("archive_options={region: us-east-1, access_key: key, secret_key: hidden-secret, "
            f"endpoint_override: '{endpoint}'}}"),
            ("memory.storage_options={aws_region: us-east-1, aws_access_key_id: key, "
            "aws_secret_access_key: hidden-secret, allow_http: 'true', "
            f"aws_endpoint: '{endpoint}', aws_virtual_hosted_style_request: 'false'}}"),
        ],
    )  # fmt: skip
    report = index_archive(config)
    assert (report.indexed, report.failed, report.failures) == (1, 1, {"unreadable": 1})
    store = MemoryStore.open(config.memory)
    video = store.get_video("s3://bucket-archive/day 1/clip.mp4")
    assert video is not None
    assert (video["num_frames"], video["camera"], video["tags"]) == (40, "gate", ["night"])
    events = store.events_of(video["video_id"]).to_pylist()
    assert [event["text"] for event in events] == [None, "the second shot"]
    again = index_archive(config)
    assert (again.already, again.still_failing, again.indexed) == (1, 1, 0)
    assert "hidden-secret" not in (store.last_config() or "")
