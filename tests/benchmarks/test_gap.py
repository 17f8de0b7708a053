"""docs/results.md shows what the committed result holds, and the tables are built right."""

from __future__ import annotations

import json

import pytest

from benchmarks.gap import END, JSON, PAGE, START, gap, gap_table, with_tables


def row(problem_id: str, variant: str, score: float) -> dict[str, object]:
    return {
        "problem_id": problem_id, "variant": variant, "video": problem_id, "task": "t", "text": "",
        "solution": "", "scores": {"official": score, "video-r1": score},
    }  # fmt: skip


def test_gap_is_paired_with_the_teacher() -> None:
    rows = [row(str(i), "teacher", float(i < 8)) for i in range(10)]
    rows += [row(str(i), "marc", float(i < 6)) for i in range(10)]
    manifest = dict.fromkeys(("benchmark", "data_hash", "questions", "prompt"), "x")
    found = gap({"manifest": manifest, "variants": {"teacher": {}, "marc": {}}, "rows": rows})
    assert found["marc"]["retention"] == pytest.approx(0.75)
    assert found["marc"]["difference"] == pytest.approx(-0.2)
    assert (found["marc"]["only_a"], found["marc"]["only_b"]) == (2, 0)
    assert "| marc | 75.0 | -20.0 (" in gap_table(found)


@pytest.mark.skipif(not JSON.is_file(), reason="no committed result yet")
def test_the_page_is_generated_from_the_committed_result() -> None:
    page = PAGE.read_text()
    assert with_tables(page, json.loads(JSON.read_text())) == page


def test_the_page_has_its_markers() -> None:
    assert PAGE.read_text().count(START) == PAGE.read_text().count(END) == 1
