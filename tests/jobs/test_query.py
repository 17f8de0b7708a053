"""`marc search` and `marc ask` on a small real memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import marc_core
from jobs import query
from jobs.cli import app
from jobs.query import save_thumbnails
from marc_core.answer import Answerer
from marc_core.config import MemoryConfig
from marc_core.memory import MemoryStore
from marc_core.question import Question
from tests.encoders import save_encoder
from tests.marc_core.engines import EchoEngine
from tests.marc_core.memories import CAPTION, ODD_NAME

runner = CliRunner()


@pytest.fixture(scope="module")
def memory(small_memory: Path) -> Path:
    return small_memory / "runs" / "memory"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which no cell is folded."""
    monkeypatch.setattr(query, "out", Console(width=250))


def run(*arguments: str, ok: bool = True) -> Any:
    result = runner.invoke(app, list(arguments))
    assert (result.exit_code == 0) is ok, result.output
    return result


def found(memory: Path, *arguments: str) -> list[dict[str, Any]]:
    output = run("search", *arguments, "--memory", str(memory), "--json").stdout
    hits: list[dict[str, Any]] = json.loads(output)
    return hits


def test_names_and_captions_are_shown_as_they_are(memory: Path) -> None:
    output = run("search", "needle", "--memory", str(memory), "-k", "15").output
    assert ODD_NAME in output
    assert CAPTION in output


def test_another_encoder_is_refused_with_the_command(memory: Path, tmp_path: Path) -> None:
    save_encoder(tmp_path, "clip")
    other = f"encoder.model={tmp_path}"
    for command in ("search", "ask"):
        error = run(command, "a circle", other, "--memory", str(memory), ok=False).stderr
        assert f"marc index --only embeddings --memory {memory} encoder.model=" in error
        assert len(error.splitlines()) == 1


def test_an_answer_shows_names_as_they_are(memory: Path, small_memory: Path) -> None:
    video = str(small_memory / "archive" / "a" / ODD_NAME)
    output = run("ask", "Which way?", "--video", video, "--memory", str(memory)).output
    assert ODD_NAME in output
    assert "visual tokens instead of" in output


def test_an_answer_about_footage_warns_where_the_student_knows_none(
    memory: Path, tmp_path: Path
) -> None:
    asked = ["ask", "Which way?", "-k", "1", "--max-tokens", "2", "--json", "--memory"]
    assert json.loads(run(*asked, str(memory)).stdout)["warning"] is None
    film = tmp_path / "film"
    shutil.copytree(memory, film)
    store = MemoryStore.open(MemoryConfig(uri=str(film)))
    store.tables.events.update(where="true", values={"synthetic": False})
    warning = json.loads(run(*asked, str(film)).stdout)["warning"]
    assert "the student knows only the synthetic world" in warning
    asked.remove("--json")
    assert warning in run(*asked, str(film)).stderr.splitlines()


def test_an_answer_that_looks_like_markup_is_shown_as_it_is(
    memory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with marc_core.open(memory) as session:
        answerer = Answerer(session.preparer, EchoEngine(), session.config)
        question = Question(text="Which way?", options=("[red]left[/red] [/no]", "right"))
        (answer,) = answerer.answer([question])
    monkeypatch.setattr(query, "out", Console(width=250))  # the captured standard output
    query.print_answer(answer, [])
    assert "[red]left[/red] [/no]" in capsys.readouterr().out


def test_pictures_stand_beside_what_was_said_not_in_its_place(memory: Path, tmp_path: Path) -> None:
    output = run(
        "search", "needle", "--memory", str(memory), "-k", "1", "--thumbnails", str(tmp_path)
    ).output
    assert CAPTION in output
    (picture,) = tmp_path.iterdir()
    assert f"picture {picture}" in output.splitlines()


def test_an_image_that_is_none_is_called_by_its_name(memory: Path, tmp_path: Path) -> None:
    odd = tmp_path / "notes.jpg"
    for content, words in ((b"words", "has 5 bytes that are no whole picture"), (b"", "no bytes")):
        odd.write_bytes(content)
        error = run("search", "--image", str(odd), "--memory", str(memory), ok=False).stderr
        assert f"The image '{odd}' must be a JPEG, PNG or WebP file" in error
        assert words in error
        assert "BytesIO" not in error


def test_pictures_of_equal_names_are_kept_apart(memory: Path, tmp_path: Path) -> None:
    hits = found(memory, "a circle", "-k", "15", "--thumbnails", str(tmp_path))
    assert {hit["uri"].rsplit("/", 2)[1] for hit in hits} == {"a", "b", "archive"}
    files = [Path(hit["thumbnail"]) for hit in hits]
    assert len(set(files)) == len(hits) >= 13
    assert all(file.read_bytes().startswith(b"\xff\xd8") for file in files)


def test_pictures_of_one_name_and_second_do_not_meet(tmp_path: Path) -> None:
    items = [SimpleNamespace(event_id=f"v{i}:0000:00000", uri="x/a.mp4") for i in range(2)]
    pictures = {item.event_id: item.event_id.encode() for item in items}
    paths = save_thumbnails(items, tmp_path, lambda ids: pictures)
    assert [path.read_bytes() for path in paths if path] == list(pictures.values())
    assert save_thumbnails(items, tmp_path, lambda ids: {}) == [None, None]


def test_search_by_picture_and_by_event(memory: Path, tmp_path: Path) -> None:
    (first,) = found(memory, "a circle", "-k", "1", "--thumbnails", str(tmp_path))
    (same,) = found(memory, "--image", first["thumbnail"], "-k", "1")
    assert same["event_id"] == first["event_id"]
    like = found(memory, "--like", first["event_id"], "-k", "3", "--offset", "1")
    assert len(like) == 3
    assert first["event_id"] not in {hit["event_id"] for hit in like}
    assert all(hit["cosine"] is not None for hit in like)
    run("search", "--like", first["event_id"], "memory.nprobes=7", "--memory", str(memory))


def test_filters_narrow_the_search(memory: Path) -> None:
    folder = str(memory.parents[1] / "archive" / "a")
    hits = found(memory, "a circle", "-k", "9", "--folder", folder, "--to", "3")
    assert hits
    assert {hit["uri"] for hit in hits} == {f"{folder}/{ODD_NAME}"}
    assert all(hit["start_s"] - hit["video_start_s"] < 3 for hit in hits)
    assert found(memory, "a circle", "--since", "2000-01-01T00:00Z") == []


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        (["--folder", "/nowhere"], "Nothing in the memory lies in folder '/nowhere'. Folders: "),
        (["--camera", "door"], "Nothing in the memory has camera 'door'. Cameras: none."),
        (["--tag", "night"], "Nothing in the memory has tag 'night'. Tags: none."),
        (["--since", "2000-01-01T00:00Z"], "No video says when it was recorded"),
        (["--offset", "500"], "The ranking ends before its event number 501."),
        (["--from", "1e6"], "No event passes the filter. Widen it."),
    ],
)
def test_where_nothing_is_found_one_sentence_says_why(
    memory: Path, filters: list[str], words: str
) -> None:
    asked = ["--memory", str(memory), *filters]
    shown = run("search", "a circle", *asked)
    assert shown.stdout == ""
    assert words in shown.stderr
    assert len(shown.stderr.strip().splitlines()) == 1
    as_json = run("search", "a circle", "--json", *asked)
    assert json.loads(as_json.stdout) == []
    assert words in as_json.stderr
    if filters[0] != "--offset":
        assert words in run("ask", "what?", *asked, ok=False).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "x", "--since", "2026-05-01T08:00"], "offset from UTC"),
        (["search"], "--image FILE"),
        (["search", "--image", "nowhere.jpg"], "nowhere.jpg"),
        (["ask", "x", "--video", ODD_NAME], "2 videos called"),
        (["ask", "x", "--video", "none.mp4"], "no video 'none.mp4'"),
        (["ask", "x", "--budget-tokens", "9999"], "max_budget_tokens, 8192. Got 9999"),
        (["ask", "x", "--temperature", "-1"], "temperature of a question must be 0 or more"),
        (["ask", "x", "-k", "99"], "retrieve.max_k, 64. Got 99"),
    ],
)
def test_wrong_requests_are_one_line(memory: Path, arguments: list[str], words: str) -> None:
    result = run(*arguments, "--memory", str(memory), ok=False)
    assert words in result.output.replace("\n", " ")
    assert len(result.output.strip().splitlines()) == 1


def test_sampling_from_the_command_line(memory: Path) -> None:
    asked = ["--temperature", "1.5", "--max-tokens", "1", "--seed", "3", "-n", "4"]
    more = ["--budget-tokens", "20", "--memory", str(memory), "--json"]
    answer = json.loads(run("ask", "What happens in the video?", *asked, *more).stdout)
    assert [s["tokens"] for s in answer["samples"]] == [1, 1, 1, 1]
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["visual_tokens"] == 20
    sampling = answer["question"]["sampling"]
    assert (sampling["temperature"], sampling["n"]) == (1.5, 4)
    assert {"start_s", "video_start_s", "cosine"} <= set(answer["citations"][0])
