"""Loaders, on synthetic rows in each published form."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marc_core.evaluation.datasets.benchmarks import data_hash, load_benchmark, resolve
from marc_core.evaluation.datasets.sample import BenchmarkError
from marc_core.scoring.options import with_letters

R1_ROW = {
    "problem_id": 7, "problem": "What moves?", "data_type": "video",
    "problem_type": "multiple choice", "options": ["A. cat", "B. dog"],
    "solution": "<answer>B</answer>", "path": "./Evaluation/MVBench/clips/one.mp4",
}  # fmt: skip
VSI_ROW = {
    "id": 3, "dataset": "arkit", "scene_name": "s1", "question_type": "object_counting",
    "question": "How many chairs?", "ground_truth": "4", "options": None,
}  # fmt: skip
VSI_LETTER = VSI_ROW | {
    "id": 4, "question_type": "route_planning", "ground_truth": "C", "options": ["A. x", "B. y",
    "C. z"],
}  # fmt: skip
MME_ROW = {
    "video_id": "001", "duration": "short", "domain": "d", "sub_category": "s", "url": "u",
    "videoID": "abc", "question_id": "001-1", "task_type": "Counting Problem", "question": "Q?",
    "options": ["A. 1", "B. 2", "C. 3", "D. 4"], "answer": "D",
}  # fmt: skip


def write(path: Path, content: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def test_video_r1_form(tmp_path: Path) -> None:
    video = tmp_path / "videos" / "MVBench" / "clips" / "one.mp4"
    video.parent.mkdir(parents=True)
    video.touch()
    data = write(tmp_path / "eval_mvbench.json", [R1_ROW])
    (sample,) = load_benchmark("mvbench", data, str(tmp_path / "videos"))
    assert (sample.problem_id, sample.solution, sample.options) == ("7", "B", ("A. cat", "B. dog"))
    assert sample.path == str(video)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"problem": ""}, "problem"),
        ({"problem": None}, "problem"),
        ({"problem_type": "essay"}, "problem_type"),
        ({"data_type": "audio"}, "data_type"),
        ({"options": "A. cat"}, "options"),
        ({"options": []}, "options"),
        ({"solution": None}, "solution"),
        ({"path": None}, "path"),
    ],
)
def test_malformed_rows_name_file_row_and_field(
    tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    data = write(tmp_path / "rows.json", [R1_ROW, R1_ROW | {"problem_id": 8} | change])
    with pytest.raises(BenchmarkError, match=rf"rows\.json, row 1: field '{field}'"):
        load_benchmark("mvbench", data, str(tmp_path))


def test_a_row_that_is_no_object(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"row 1 must be an object"):
        load_benchmark("mvbench", write(tmp_path / "r.json", [R1_ROW, 3]), str(tmp_path))


def test_double_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="'7' twice"):
        load_benchmark("mvbench", write(tmp_path / "r.json", [R1_ROW, R1_ROW]), str(tmp_path))


def test_vsi_bench_jsonl_and_parquet(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(r) for r in (VSI_ROW, VSI_LETTER)) + "\n"
    (tmp_path / "test.jsonl").write_text(lines, encoding="utf-8")
    from_lines = load_benchmark("vsi-bench", str(tmp_path / "test.jsonl"), "videos")
    pq.write_table(pa.Table.from_pylist([VSI_ROW, VSI_LETTER]), tmp_path / "test.parquet")
    assert load_benchmark("vsi-bench", str(tmp_path / "test.parquet"), "videos") == from_lines
    number, letter = from_lines
    assert (number.problem_type, number.solution, number.options) == ("regression", "4", ())
    assert (letter.problem_type, letter.solution) == ("multiple choice", "C")
    assert number.path == "videos/arkit/s1.mp4"


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (VSI_ROW | {"question_type": "colour"}, "question_type"),
        (VSI_ROW | {"ground_truth": "four"}, "ground_truth"),
        (VSI_LETTER | {"ground_truth": "E"}, "ground_truth"),
        ({k: v for k, v in VSI_ROW.items() if k != "scene_name"}, "scene_name"),
    ],
)
def test_bad_vsi_rows(tmp_path: Path, row: dict[str, Any], field: str) -> None:
    with pytest.raises(BenchmarkError, match=rf"row 0: field '{field}'"):
        load_benchmark("vsi-bench", write(tmp_path / "t.json", [row]), "videos")


def test_videommmu(tmp_path: Path) -> None:
    rows = [
        {"id": "validation_Art_1", "question": "Q?", "options": ["x", "y"], "answer": "B",
         "question_type": "multiple-choice"},
        {"id": "validation_Math_2", "question": "Q?", "options": [], "answer": "3.5",
         "question_type": "open"},
    ]  # fmt: skip
    (tmp_path / "Adaptation").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "Adaptation" / "test.parquet")
    video = tmp_path / "videos" / "Art" / "validation_Art_1.mp4"
    video.parent.mkdir(parents=True)
    video.touch()
    closed, opened = load_benchmark(
        "videommmu", str(tmp_path / "Adaptation"), str(tmp_path / "videos")
    )
    assert (closed.task, closed.solution, closed.options) == ("Adaptation", "B", ("A. x", "B. y"))
    assert closed.path == str(video)
    assert (opened.problem_type, opened.solution) == ("free-form", "3.5")


def test_mmvu(tmp_path: Path) -> None:
    row = {
        "id": "validation_1", "video": "https://host/resolve/main/videos/Art/0.mp4",
        "question_type": "multiple-choice", "metadata": {"subject": "Art"}, "question": "Q?",
        "choices": {"A": "x", "B": "y", "C": "", "D": "", "E": ""}, "answer": "B",
    }  # fmt: skip
    opened = row | {"id": "validation_2", "question_type": "open-ended", "answer": "Dolly zoom"}
    first, second = load_benchmark("mmvu", write(tmp_path / "v.json", [row, opened]), "videos")
    assert (first.task, first.options, first.path) == ("Art", ("A. x", "B. y"), "videos/Art/0.mp4")
    assert (second.problem_type, second.solution) == ("free-form", "Dolly zoom")
    with pytest.raises(BenchmarkError, match="field 'answer' must be one letter of AB"):
        load_benchmark("mmvu", write(tmp_path / "w.json", [row | {"answer": "C"}]), "videos")


def test_mvbench(tmp_path: Path) -> None:
    row = {"video": "a.mp4", "question": "Q?", "candidates": ["up", "down"], "answer": "down",
           "start": 1.5, "end": 4}  # fmt: skip
    write(tmp_path / "json" / "action_sequence.json", [row])
    write(tmp_path / "json" / "moving_count.json", [row | {"start": None, "end": None}])
    first, second = load_benchmark("mvbench", str(tmp_path / "json"), "video")
    assert (first.task, first.solution, first.options) == ("action_sequence", "B",
                                                          ("A. up", "B. down"))  # fmt: skip
    assert (first.clip_start_s, first.clip_end_s) == (1.5, 4.0)
    assert second.clip_start_s is None
    assert second.path == "video/clevrer/video_validation/a.mp4"
    bad = write(tmp_path / "bad.json", [row | {"answer": "left"}])
    with pytest.raises(BenchmarkError, match="'answer' must be one of the candidates"):
        load_benchmark("mvbench", bad, "video")


def test_tempcompass_nested_and_flat_forms_agree(tmp_path: Path) -> None:
    question = {"question": "Where?\nA. up\nB. down", "answer": "B. down"}
    nested = write(tmp_path / "multi-choice.json", {"9": {"direction": [question]}})
    flat_file = tmp_path / "multi-choice" / "test.parquet"
    flat_file.parent.mkdir()
    pq.write_table(
        pa.Table.from_pylist([question | {"video_id": "9", "dim": "direction"}]), flat_file
    )
    (sample,) = load_benchmark("tempcompass", nested, "videos")
    assert load_benchmark("tempcompass", str(flat_file), "videos") == [sample]
    assert (sample.task, sample.solution, sample.problem) == ("multi-choice/direction", "B",
                                                              "Where?")  # fmt: skip
    assert sample.options == ("A. up", "B. down")
    assert sample.path == "videos/9.mp4"


def test_tempcompass_other_forms(tmp_path: Path) -> None:
    yes = write(tmp_path / "yes_no.json", {"9": {"speed": [{"question": "Fast?", "answer": "no"}]}})
    (sample,) = load_benchmark("tempcompass", yes, "videos")
    assert (sample.problem_type, sample.solution) == ("free-form", "no")
    match = {"question": "Which?\nOption 1: up.\nOption 2: down.", "answer": "Option 2: down."}
    file = write(tmp_path / "caption_matching.json", {"9": {"order": [match]}})
    (sample,) = load_benchmark("tempcompass", file, "videos")
    assert (sample.solution, len(sample.options)) == ("Option 2", 2)
    with pytest.raises(BenchmarkError, match="captioning needs a language model"):
        load_benchmark("tempcompass", write(tmp_path / "captioning.json", {}), "videos")


def test_videomme(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([MME_ROW]), tmp_path / "test-0.parquet")
    (sample,) = load_benchmark("videomme", str(tmp_path), "videos")
    assert sample.tags == ("short",)
    assert (sample.task, sample.solution, sample.path) == (
        "Counting Problem", "D", "videos/abc.mp4",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: str(p / "none.json"), "does not exist"),
        (lambda p: str(p), "holds none"),
        (lambda p: write(p / "x.json", []), "No question found"),
        (lambda p: write(p / "x.json", {"a": 1}), "must hold a list of rows"),
    ],
)
def test_missing_and_empty_data(tmp_path: Path, make: Callable[[Path], str], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        load_benchmark("videomme", make(tmp_path), "videos")


def test_broken_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[{", encoding="utf-8")
    with pytest.raises(BenchmarkError, match=r"x\.json' cannot be read as json"):
        load_benchmark("videomme", str(tmp_path / "x.json"), "videos")


def test_unknown_benchmark() -> None:
    with pytest.raises(BenchmarkError, match="Got 'kinetics'"):
        load_benchmark("kinetics", "x", "y")


def test_hash_follows_the_content(tmp_path: Path) -> None:
    file = write(tmp_path / "x.json", [1])
    before = data_hash(file)
    assert data_hash(file) == before
    write(tmp_path / "x.json", [2])
    assert data_hash(file) != before


def test_expected_place_of_a_missing_video(tmp_path: Path) -> None:
    assert resolve("./a/b.mp4", "mvbench", str(tmp_path)) == str(tmp_path / "a" / "b.mp4")


def test_options_get_letters_once() -> None:
    assert with_letters(["red", "blue"]) == ("A. red", "B. blue")
    assert with_letters(["A. red", "B. blue"]) == ("A. red", "B. blue")
    assert with_letters(["A. Smith", "C. Jones"]) == ("A. A. Smith", "B. C. Jones")
