"""Further video streams of a file become videos of their own, each once; without Ray."""

from __future__ import annotations

import pyarrow as pa

from marc_core.types import VideoSource
from marc_core.video.source import make_source, stream_source
from pipelines.plan import collect
from pipelines.streams import with_further_streams

ONE = make_source("/a/one.mp4", 1, "1")
THREE = make_source("/a/three.mp4", 2, "1")
NEW = make_source("/a/new.mp4", 3, "1")


def states(*known: tuple[VideoSource, int | None]) -> pa.Table:
    schema = pa.schema([("video_id", pa.string()), ("num_streams", pa.int32())])
    rows = [{"video_id": source.video_id, "num_streams": count} for source, count in known]
    return pa.Table.from_pylist(rows, schema=schema)


def sources(table: pa.Table) -> list[VideoSource]:
    return [VideoSource.from_json(text) for text in table["source"].to_pylist()]


def test_streams_that_are_known_follow_their_files():
    found = collect([ONE, THREE, NEW])
    memory = states((ONE, 1), (THREE, 3))
    more = with_further_streams(found, memory)
    further = [stream_source(THREE, 1), stream_source(THREE, 2)]
    assert sources(more) == [ONE, THREE, NEW, *further]
    assert more["video_id"].to_pylist()[3:] == [s.video_id for s in further]
    assert [s.uri for s in further] == ["/a/three.mp4#1", "/a/three.mp4#2"]


def test_each_stream_comes_once_however_often_it_is_looked_for():
    found = collect([THREE])
    rows = [(THREE, 3), (stream_source(THREE, 1), 3), (stream_source(THREE, 2), 3)]
    once = with_further_streams(found, states(*rows))
    assert once.num_rows == 3
    assert with_further_streams(once, states(*rows)).equals(once)


def test_files_that_were_never_opened_have_none_yet():
    found = collect([NEW, ONE])
    assert with_further_streams(found, states((ONE, None))).equals(found)
    assert with_further_streams(found, states((THREE, 2))).equals(found)
