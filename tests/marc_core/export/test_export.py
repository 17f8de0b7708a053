"""`marc export` of events, texts and citations of a real small memory."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.marc_core.memories import CAPTION, ODD_NAME

runner = CliRunner()


@pytest.fixture(scope="module")
def memory(small_memory: Path) -> str:
    return str(small_memory / "runs" / "memory")


def run(*arguments: str, ok: bool = True) -> str:
    result = runner.invoke(app, ["export", *arguments])
    assert (result.exit_code == 0) is ok, result.output
    return str(result.stdout if ok else result.output).replace("\r\n", "\n")


def test_events_as_lines_tables_and_parquet_are_the_same(memory: str, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in run("-m", memory).splitlines()]
    assert len(lines) >= 13
    assert [(r["uri"], r["start_s"]) for r in lines] == sorted(
        (r["uri"], r["start_s"]) for r in lines
    )
    assert all(0 <= row["start_s"] < row["end_s"] for row in lines)
    table = list(csv.DictReader(io.StringIO(run("-m", memory, "-f", "csv"))))
    assert [row["event_id"] for row in table] == [row["event_id"] for row in lines]
    assert table[0]["tags"] == "[]"
    file = tmp_path / "events.parquet"
    run("-m", memory, "-f", "parquet", "--what", "events", "-o", str(file))
    assert pq.read_table(file).to_pylist() == lines
    first = run("-m", memory, "--to", "1", "--video", "video1.mp4").splitlines()
    assert len(first) == 1


def test_texts_as_captions_beside_a_video(memory: str, tmp_path: Path) -> None:
    (text,) = (json.loads(line) for line in run("-m", memory, "--what", "texts").splitlines())
    assert (text["kind"], text["start_s"], text["end_s"]) == ("sidecar", 0.2, 1.0)
    assert CAPTION in text["text"]
    captions = run("-m", memory, "--what", "texts", "-f", "webvtt")
    assert captions.startswith("WEBVTT\n\nNOTE ")
    assert "00:00:00.200 --> 00:00:01.000" in captions
    assert run("-m", memory, "--what", "texts", "--kind", "speech") == ""
    file = str(tmp_path / "texts.jsonl")
    said = runner.invoke(app, ["export", "-m", memory, "--what", "texts", "-o", file])
    assert said.stderr.startswith("Wrote 1 text to ")
    folder = tmp_path / "captions"
    run("-m", memory, "-f", "webvtt", "-o", str(folder))
    stem = ODD_NAME.removesuffix(".mp4")
    names = sorted(file.name for file in folder.iterdir())
    assert names == sorted([f"{stem}.vtt", f"{stem}-2.vtt", "video1.vtt"])
    assert "give --output FOLDER" in run("-m", memory, "-f", "webvtt", ok=False)


def test_what_a_search_finds_as_a_list_of_clips(memory: str, tmp_path: Path) -> None:
    found = ["-m", memory, "--search", "a circle", "-k", "4"]
    rows = [json.loads(line) for line in run(*found).splitlines()]
    assert [row["number"] for row in rows] == [1, 2, 3, 4]
    assert {row["asked"] for row in rows} == {"a circle"}
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    file = tmp_path / "circles.edl"
    said = json.loads(run(*found, "-f", "edl", "--fps", "25", "-o", str(file), "--json"))
    assert said["rows"] == {"citations": 4}
    text = file.read_text()
    assert text.startswith("TITLE: a circle\nFCM: NON-DROP FRAME\n")
    assert text.count("* FROM CLIP NAME: ") == 4


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_a_file_is_there_whole_or_not_at_all(memory: str, tmp_path: Path, format: str) -> None:
    file, folder = tmp_path / "new" / "events", tmp_path / "folder"
    folder.mkdir()
    what = ("-m", memory, "--what", "events", "-f", format)
    run(*what, "-o", str(file))
    first = file.read_bytes()
    run(*what, "--video", "video1.mp4", "-o", str(file))
    assert 0 < len(file.read_bytes()) < len(first)  # another export takes its place
    assert "A folder stands where a file is needed" in run(*what, "-o", str(folder), ok=False)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["events", "folder", "new"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-f", "mp3"], "--format of events must be one of parquet, jsonl, csv, edl, webvtt"),
        (["-f", "edl", "--what", "texts"], "--format of texts must be one of"),
        (["--what", "memory"], "--format of memory must be one of parquet. Got 'jsonl'"),
        (["--what", "citations"], "Citations are of --search TEXT or --ask QUESTION"),
        (["--what", "events", "--search", "x"], "Citations are of --search TEXT"),
        (["--search", "x", "--ask", "y"], "give one of them"),
        (["-f", "parquet"], "Parquet needs a place"),
        (["-f", "edl"], "An EDL counts frames at one of 23.976"),
        (["--what", "songs"], "--what must be one of memory, events"),
    ],
)
def test_what_does_not_go_together_is_refused(
    memory: str, arguments: list[str], words: str
) -> None:
    said = run("-m", memory, *arguments, ok=False)
    assert words in said.replace("\n", " ")
    assert len(said.strip().splitlines()) == 1
