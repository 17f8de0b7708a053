"""The six benchmarks' own file forms.

- vsi-bench: test.jsonl, test-*.parquet: id, dataset, scene_name, question_type, question,
  ground_truth, options
- videommmu: <Track>/test-*.parquet: id, question, options, answer, question_type
- mmvu: validation.json: id, video, question_type, metadata.subject, question, choices, answer
- mvbench: json/<task>.json: video, question, candidates, answer, start, end
- tempcompass: questions/<form>.json (nested) or <form>/test-*.parquet (flat): question, answer,
  dim, video_id
- videomme: test-*.parquet: question_id, videoID, duration, task_type, question, options, answer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from marc_core.evaluation.datasets.sample import (
    BenchmarkError,
    Row,
    Sample,
    letter_in_range,
)
from marc_core.evaluation.scoring.metrics import VSI_NUMERICAL
from marc_core.scoring.options import with_letters

TASK_FIELDS = (
    "task", "original_question_type", "question_type", "sub_task", "task_type", "dim", "category",
)  # fmt: skip
"""Fields under which Video-R1 files and their conversions name the benchmark's category."""

VSI_TASKS = (
    "object_counting", "object_abs_distance", "object_size_estimation", "room_size_estimation",
    "object_rel_distance", "object_rel_direction_easy", "object_rel_direction_medium",
    "object_rel_direction_hard", "route_planning", "obj_appearance_order",
)  # fmt: skip

MVBENCH_FOLDERS = {
    "action_sequence": "star/Charades_v1_480", "action_prediction": "star/Charades_v1_480",
    "action_antonym": "ssv2_video", "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test", "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480", "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation", "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video", "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation", "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos", "fine_grained_pose": "nturgbd",
    "character_order": "perception/videos", "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq", "counterfactual_inference":
    "clevrer/video_validation",
}  # fmt: skip
"""Folder of each task's videos below MVBench's `video` folder, as its authors pack them."""

TEMPCOMPASS_FORMS = ("multi-choice", "yes_no", "caption_matching")


def _rows(content: Any, file: Path) -> Iterator[Row]:
    if not isinstance(content, list):
        raise BenchmarkError(f"'{file}' must hold a list of rows. Got {type(content).__name__}.")
    for index, values in enumerate(content):
        yield Row(values, file=str(file), index=index)


def vsi_bench(content: Any, file: Path, videos: str) -> list[Sample]:
    """Read VSI-Bench rows; numbers stay "regression" (scored by MRA)."""
    samples = []
    for row in _rows(content, file):
        task = row.choice("question_type", VSI_TASKS)
        options = with_letters(row.texts("options"))
        truth = row.text("ground_truth")
        numeric = task in VSI_NUMERICAL
        samples.append(
            Sample(
                problem_id=row.text("id"),
                benchmark="vsi-bench",
                task=task,
                problem=row.text("question"),
                data_type="video",
                problem_type="regression" if numeric else "multiple choice",
                options=() if numeric else options,
                solution=_number(row, "ground_truth", truth)
                if numeric
                else letter_in_range(row, "ground_truth", truth, len(options)),
                path=str(Path(videos, row.text("dataset"), row.text("scene_name") + ".mp4")),
            )
        )
    return samples


def _number(row: Row, field: str, text: str) -> str:
    try:
        float(text)
    except ValueError:
        raise row.error(field, "must be a number", text) from None
    return text


def videommmu(content: Any, file: Path, videos: str) -> list[Sample]:
    """Read VideoMMMU rows; the track is the folder's or file's name (Perception, ...)."""
    track = next((t for t in ("Perception", "Comprehension", "Adaptation") if t in str(file)), "")
    samples = []
    for row in _rows(content, file):
        options = row.texts("options")
        closed = row.text("question_type") in ("multiple-choice", "perception") and options
        answer = row.text("answer")
        video = row.text("id")
        samples.append(
            Sample(
                problem_id=f"{track}/{video}" if track else video,
                benchmark="videommmu",
                task=track,
                problem=row.text("question"),
                data_type="video",
                problem_type="multiple choice" if closed else "free-form",
                options=with_letters(options) if closed else (),
                solution=letter_in_range(row, "answer", answer, len(options)) if closed else answer,
                path=_find(videos, f"{video}.mp4"),
            )
        )
    return samples


def mmvu(content: Any, file: Path, videos: str) -> list[Sample]:
    """Read MMVU rows. `video` is a download address; its last two parts lie under `videos`."""
    samples = []
    for row in _rows(content, file):
        closed = row.choice("question_type", ("multiple-choice", "open-ended")) != "open-ended"
        choices = row.values.get("choices")
        if closed and not isinstance(choices, dict):
            raise row.error("choices", "must be an object of letters", choices)
        texts = [str(v) for _, v in sorted((choices or {}).items()) if str(v).strip()]
        metadata = row.values.get("metadata")
        subject = metadata.get("subject", "") if isinstance(metadata, dict) else ""
        answer = row.text("answer")
        samples.append(
            Sample(
                problem_id=row.text("id"),
                benchmark="mmvu",
                task=str(subject),
                problem=row.text("question"),
                data_type="video",
                problem_type="multiple choice" if closed else "free-form",
                options=with_letters(texts) if closed else (),
                solution=letter_in_range(row, "answer", answer, len(texts)) if closed else answer,
                path=_find(videos, *Path(urlparse(row.text("video")).path).parts[-2:]),
            )
        )
    return samples


def mvbench(content: Any, file: Path, videos: str) -> list[Sample]:
    """Read one MVBench task file; the file's name is the task."""
    task, samples = file.stem, []
    for row in _rows(content, file):
        candidates, answer = row.texts("candidates"), row.text("answer")
        if answer not in candidates:
            raise row.error("answer", "must be one of the candidates", answer)
        samples.append(
            Sample(
                problem_id=f"{task}/{row.index}",
                benchmark="mvbench",
                task=task,
                problem=row.text("question"),
                data_type="video",
                problem_type="multiple choice",
                options=with_letters(candidates),
                solution=chr(ord("A") + candidates.index(answer)),
                path=_find(videos, MVBENCH_FOLDERS.get(task, task), row.text("video")),
                clip_start_s=row.seconds("start"),
                clip_end_s=row.seconds("end"),
            )
        )
    return samples


def tempcompass(content: Any, file: Path, videos: str) -> list[Sample]:
    """Read a TempCompass question file: nested {video: {aspect: [question]}}, or flat rows.

    The form (multi-choice, yes_no, caption_matching) is taken from the file's name or folder;
    a captioning file is refused, because its scoring needs a language model as judge.
    """
    kind = next((k for k in TEMPCOMPASS_FORMS if k in (file.stem, file.parent.name)), None)
    if kind is None:
        raise BenchmarkError(
            f"A TempCompass file or its folder must be named {', '.join(TEMPCOMPASS_FORMS)} "
            f"(captioning needs a language model as judge). Got '{file}'."
        )
    flat = _flatten(content, file) if isinstance(content, dict) else content
    return [_tempcompass_row(row, kind, videos) for row in _rows(flat, file)]


def _flatten(content: dict[str, Any], file: Path) -> list[Any]:
    rows: list[Any] = []
    for video, aspects in content.items():
        if not isinstance(aspects, dict):
            raise BenchmarkError(f"{file}, video {video}: must be an object of aspects.")
        for aspect, questions in aspects.items():
            for question in questions:
                rows.append({"video_id": video, "dim": aspect, **question})
    return rows


def _tempcompass_row(row: Row, kind: str, videos: str) -> Sample:
    question, *options = row.text("question").splitlines()
    answer, closed = row.text("answer"), kind != "yes_no"
    if closed and answer not in [o.strip() for o in options]:
        raise row.error("answer", "must be one of the question's option lines", answer)
    if not closed and answer.lower() not in ("yes", "no"):
        raise row.error("answer", "must be yes or no", answer)
    solution = {"multi-choice": answer[:1], "yes_no": answer.lower()}.get(
        kind, answer.partition(": ")[0]
    )
    return Sample(
        problem_id=f"{kind}/{row.text('video_id')}/{row.index}",
        benchmark="tempcompass",
        task=f"{kind}/{row.text('dim')}",
        problem=question,
        data_type="video",
        problem_type="multiple choice" if closed else "free-form",
        options=tuple(o.strip() for o in options),
        solution=solution,
        path=_find(videos, row.text("video_id") + ".mp4"),
    )


def videomme(content: Any, file: Path, videos: str) -> list[Sample]:
    """Read Video-MME rows; the duration (short, medium, long) is a tag."""
    samples = []
    for row in _rows(content, file):
        options = with_letters(row.texts("options"))
        samples.append(
            Sample(
                problem_id=row.text("question_id"),
                benchmark="videomme",
                task=row.text("task_type"),
                tags=(row.text("duration"),),
                problem=row.text("question"),
                data_type="video",
                problem_type="multiple choice",
                options=options,
                solution=letter_in_range(row, "answer", row.text("answer"), len(options)),
                path=_find(videos, row.text("videoID") + ".mp4"),
            )
        )
    return samples


def _find(videos: str, *parts: str) -> str:
    """Return the file under `videos`: where published, else one level down, else as published."""
    root = Path(videos)
    for tail in (Path(*parts), Path(parts[-1])):
        if (root / tail).exists():
            return str(root / tail)
    below = sorted(root.glob(f"*/{parts[-1]}")) if root.is_dir() else []
    return str(below[0] if below else root.joinpath(*parts))


FORMS: dict[str, Callable[[Any, Path, str], list[Sample]]] = {
    "vsi-bench": vsi_bench,
    "videommmu": videommmu,
    "mmvu": mmvu,
    "mvbench": mvbench,
    "tempcompass": tempcompass,
    "videomme": videomme,
}
"""Loader of each benchmark's own form."""
