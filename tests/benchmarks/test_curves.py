"""Curves of several runs become one picture; steps done twice after a restart count once."""

from __future__ import annotations

import json

from benchmarks.curves import draw, read_curve


def _write(folder, points):
    folder.mkdir()
    lines = [json.dumps({"stage": s, "step": n, "loss": x}) for s, n, x in points]
    (folder / "curves.jsonl").write_text("\n".join(lines) + "\n")


def test_a_step_done_again_replaces_the_first(tmp_path):
    _write(tmp_path / "run", [("a", 1, 3.0), ("a", 2, 9.0), ("a", 2, 2.0), ("b", 1, 1.0)])
    points = read_curve(tmp_path / "run")
    assert [(p["stage"], p["step"], p["loss"]) for p in points] == [
        ("a", 1, 3.0), ("a", 2, 2.0), ("b", 1, 1.0),
    ]  # fmt: skip


def test_the_picture_names_every_stage(tmp_path):
    _write(tmp_path / "one", [("read", 25 * i, 1 / i) for i in range(1, 9)])
    _write(tmp_path / "two", [("full", 25 * i, 0.1 / i) for i in range(1, 9)])
    points = read_curve(tmp_path / "one") + read_curve(tmp_path / "two")
    draw(points, ["loss"], tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    assert "<!-- read -->" in text
    assert "<!-- full -->" in text
    draw(points, ["loss"], tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == text
