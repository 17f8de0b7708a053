"""A memory in a bucket (a moto server speaks the S3 protocol)."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from marc_core.config import MemoryConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory import MemoryStore


@pytest.fixture(scope="module")
def bucket():
    """Start an S3 server on a free port; return the storage options of a bucket 'memories'."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "aws_endpoint": f"http://{host}:{port}",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
        "aws_region": "us-east-1",
        "aws_virtual_hosted_style_request": "false",
        "allow_http": "true",
    }
    client = boto3.client(
        "s3",
        endpoint_url=options["aws_endpoint"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="memories")
    client.close()
    yield options
    server.stop()


def test_a_memory_in_a_bucket_behaves_like_a_folder(bucket, fakes):
    config = MemoryConfig(uri="s3://memories/one", storage_options=bucket)
    with pytest.raises(MemoryStoreError, match="Run `marc index` first"):
        MemoryStore.open(config)
    store = MemoryStore.open(config, embedding_dim=fakes.DIM, create=True)
    store.publish(*fakes.tables_of("old", "/a.mp4", 4, text="a dog"))
    store.publish(*fakes.tables_of("new", "/a.mp4", 3, text="a dog"))
    store.optimize()
    reader = MemoryStore.open(config)
    query = np.ones(fakes.DIM, np.float32)
    hits = fakes.find(reader, query, text="dog")
    assert sorted(h.event_id for h in hits) == [
        "new:0000:00000",
        "new:0000:00001",
        "new:0000:00002",
    ]
    assert len(reader.load_features([h.event_id for h in hits], "m1")) == 3
    assert store.delete_video("/a.mp4") == {
        "videos": 1, "events": 3, "features": 3, "texts": 3
    }  # fmt: skip


@pytest.mark.slow
def test_two_processes_at_once_in_a_bucket(bucket, fakes):
    config = MemoryConfig(uri="s3://memories/two", storage_options=bucket)
    program = Path(__file__).with_name("fakes.py")
    names = [["both", "a1", "a2"], ["both", "b1", "b2"]]
    writers = [
        subprocess.Popen(
            [sys.executable, str(program), config.uri, "write", "2", *mine, json.dumps(bucket)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for mine in names
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=240)
        assert writer.returncode == 0, errors
    status = MemoryStore.open(config).status()
    assert (status["videos"], status["events"], status["features"]) == (5, 20, 20)


def test_wrong_credentials_or_address_are_a_clear_error(bucket):
    options = bucket | {"aws_endpoint": "http://127.0.0.1:9", "client_max_retries": "0"}
    config = MemoryConfig(uri="s3://memories/one", storage_options=options)
    with pytest.raises(MemoryStoreError, match=r"cannot be opened.*storage_options"):
        MemoryStore.open(config)
