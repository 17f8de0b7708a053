"""A training set as memory-mapped arrays: no Evidence is parsed while training.

    training set --pack_set--> <folder>/*.npy, tokens.bin, about.json --PackedSet--> rows by number

Questions about the same tokens share rows (`marc_core.supervised.layout`). Of an answer among
options only the tokens at which options part are learned: all others follow from them.

Letters: T tokens of a row, N visual tokens, D channels, P tokens to predict.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from marc_core.errors import TrainingError
from marc_core.models.inputs import full_ids, full_positions
from marc_core.models.sampling import answer_ids, next_ids
from marc_core.supervised.layout import COMMON

if TYPE_CHECKING:
    from marc_core.evidence import Evidence
    from marc_core.models.student_files import StudentFiles
    from marc_core.rl.samples import TrainSample

VERSION = 1
"""Changes with whatever changes the arrays."""
MOST_QUESTIONS = 12
"""Questions of one row (our choice: attention in a row grows with its square)."""
_FLAT = {
    "ids": np.int32, "positions": np.int16, "branches": np.int16, "visual": np.int32,
    "columns": np.int32, "targets": np.int32, "questions": np.int32, "allowed": np.int32,
    "token_ends": np.int64, "visual_ends": np.int64, "predicted_ends": np.int64,
    "allowed_ends": np.int64, "source_of": np.int16,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """A token of a right answer. column: place in the row of the state that predicts it.
    allowed: ids that could stand there; none where all could. question: number in its row."""

    column: int
    target: int
    question: int
    allowed: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """Questions that read the same tokens.

    ids_T: token ids. positions_3T. branches_T: `layout.COMMON`, or the question's number from 1.
    visual_N: places of the visual tokens. tokens_ND: those tokens. sources: of each question.
    """

    ids_T: NDArray[np.int32]
    positions_3T: NDArray[np.int16]
    branches_T: NDArray[np.int16]
    visual_N: NDArray[np.int32]
    tokens_ND: torch.Tensor
    predictions: tuple[Prediction, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A question's right answer as it is learned. steps: (place in the answer, allowed ids)."""

    ids: tuple[int, ...]
    steps: tuple[tuple[int, tuple[int, ...]], ...]


@cache
def _spoken(text: str, tokenizer: Any) -> tuple[int, ...]:
    """Return an answer's ids; the same few texts come again and again."""
    return answer_ids(text, tokenizer, int(tokenizer.eos_token_id))


def target_of(sample: TrainSample, evidence: Evidence, tokenizer: Any) -> Target | None:
    """Return what to learn, None where no right answer is known.

    Raises TrainingError for a letter that names no option.
    """
    if not sample.answers:
        return None
    if not evidence.choices:
        ids = _spoken(sample.answers[0], tokenizer)
        return Target(ids, tuple((at, ()) for at in range(len(ids))))
    right = ord(sample.answers[0].strip().upper()[:1] or " ") - ord("A")
    if not 0 <= right < len(evidence.choices):
        raise TrainingError(
            f"The first answer of training sample '{sample.id}' must be the letter of one of its "
            f"{len(evidence.choices)} options. Got '{sample.answers[0]}'."
        )
    choices = [_spoken(text, tokenizer) for text in evidence.choices]
    allowed = [tuple(next_ids(choices, choices[right][:at])) for at in range(len(choices[right]))]
    steps = tuple((at, ids) for at, ids in enumerate(allowed) if len(ids) > 1)
    return Target(choices[right], steps) if steps else None


def make_row(questions: Sequence[tuple[Evidence, Target, str]], video_id: int) -> Row:
    """Return the row of questions that read the same tokens.

    video_id: the id that stands for a visual token.
    """
    prompts = [np.array(full_ids(evidence, video_id)) for evidence, _, _ in questions]
    first = questions[0][0]
    places = full_positions(first).numpy()
    common = _common(prompts)
    assert prompts[0][common - 1] != video_id, "text follows the visual tokens of every prompt"
    ids, positions = [prompts[0][:common]], [places[:, :common]]
    branches = [np.full(common, COMMON)]
    start, at = int(places[0, common - 1]) + 1, common
    predictions: list[Prediction] = []
    for number, (prompt, (_, target, _)) in enumerate(zip(prompts, questions, strict=True)):
        said = target.ids[: target.steps[-1][0]]
        own = np.concatenate([prompt[common:], np.array(said, dtype=np.int64)])
        ids.append(own)
        positions.append(np.broadcast_to(np.arange(start, start + len(own)), (3, len(own))))
        branches.append(np.full(len(own), number + 1))
        answer = at + len(prompt) - common
        predictions += [
            Prediction(column=answer - 1 + step, target=target.ids[step], question=number,
                       allowed=allowed)
            for step, allowed in target.steps
        ]  # fmt: skip
        at += len(own)
    flat = np.concatenate(ids).astype(np.int32)
    return Row(
        ids_T=flat,
        positions_3T=np.concatenate(positions, axis=1).astype(np.int16),
        branches_T=np.concatenate(branches).astype(np.int16),
        visual_N=np.flatnonzero(flat == video_id).astype(np.int32),
        tokens_ND=first.tokens_ND,
        predictions=tuple(predictions),
        sources=tuple(source for _, _, source in questions),
    )


def _common(prompts: Sequence[NDArray[np.int64]]) -> int:
    """Return how many tokens all prompts begin with; each keeps one of its own at least."""
    most = min(len(prompt) for prompt in prompts) - 1
    same = np.ones(most, dtype=bool)
    for prompt in prompts[1:]:
        same &= prompt[:most] == prompts[0][:most]
    return most if same.all() else int(np.argmin(same))


def rows_of(samples: Iterable[TrainSample], files: StudentFiles) -> Iterator[Row]:
    """Yield the rows of a training set; samples of one video stand together in it.

    Raises TrainingError for evidence that this student cannot read.
    """
    video_id = int(files.model_config.video_token_id)
    groups: dict[Any, list[tuple[Evidence, Target, str]]] = {}
    video = None
    for sample in samples:
        evidence = sample.student_evidence()
        _check(sample, evidence, files)
        of = sample.question.filter.video_ids
        if of != video:
            yield from _flushed(groups, video_id)
            video = of
        target = target_of(sample, evidence, files.tokenizer)
        if target is not None:
            key = (evidence.before_ids, evidence.runs, evidence.tokens_ND.numpy().tobytes(),
                   evidence.positions_N3.numpy().tobytes())  # fmt: skip
            groups.setdefault(key, []).append((evidence, target, sample.source))
    yield from _flushed(groups, video_id)


def _flushed(groups: dict[Any, list[tuple[Evidence, Target, str]]], video_id: int) -> Iterator[Row]:
    for group in groups.values():
        parts = -(-len(group) // MOST_QUESTIONS)
        for part in range(parts):
            yield make_row(group[part::parts], video_id)
    groups.clear()


def _check(sample: TrainSample, evidence: Evidence, files: StudentFiles) -> None:
    if evidence.deepstack_LND is not None or not evidence.num_tokens:
        raise TrainingError(
            f"Training sample '{sample.id}' must hold visual tokens without deepstack features. "
            "Supervised training reads students of the Qwen2-VL and Qwen2.5-VL families."
        )
    if evidence.vision_fingerprint != files.vision_fingerprint:
        raise TrainingError(
            f"A training set must be made with the vision tower of the student that is trained, "
            f"{files.vision_fingerprint}. Got '{sample.id}' of tower "
            f"{evidence.vision_fingerprint}: write the set with student.model={files.config.model}."
        )


class _Columns:
    """Collects rows as flat arrays; visual tokens go to a file as they come."""

    def __init__(self, tokens: BinaryIO) -> None:
        self.parts: dict[str, list[Any]] = {name: [] for name in _FLAT}
        self.sources: dict[str, int] = {}
        self.tokens = tokens
        self.sizes = {"token_ends": 0, "visual_ends": 0, "predicted_ends": 0, "allowed_ends": 0}
        self.width = self.num_questions = 0

    def add(self, row: Row) -> None:
        bits = row.tokens_ND.to(torch.bfloat16).contiguous().view(torch.int16)
        self.tokens.write(bits.numpy().tobytes())
        self.width = row.tokens_ND.shape[1]
        for name, values in (
            ("ids", row.ids_T), ("positions", row.positions_3T.T.reshape(-1)),
            ("branches", row.branches_T), ("visual", row.visual_N),
            ("columns", [p.column for p in row.predictions]),
            ("targets", [p.target for p in row.predictions]),
            ("questions", [p.question + self.num_questions for p in row.predictions]),
        ):  # fmt: skip
            self.parts[name].append(np.asarray(values, dtype=_FLAT[name]))
        for p in row.predictions:
            self.parts["allowed"].append(np.asarray(p.allowed, dtype=np.int32))
            self._end("allowed_ends", len(p.allowed))
        self._end("token_ends", len(row.ids_T))
        self._end("visual_ends", len(row.visual_N))
        self._end("predicted_ends", len(row.predictions))
        numbers = [self.sources.setdefault(s, len(self.sources)) for s in row.sources]
        self.parts["source_of"].append(np.asarray(numbers, dtype=np.int16))
        self.num_questions += len(row.sources)

    def _end(self, name: str, size: int) -> None:
        self.sizes[name] += size
        self.parts[name].append(np.array([self.sizes[name]], dtype=np.int64))

    def save(self, folder: Path, about: dict[str, Any]) -> None:
        for name, parts in self.parts.items():
            joined = np.concatenate(parts) if parts else np.zeros(0, dtype=_FLAT[name])
            np.save(folder / f"{name}.npy", joined)
        facts = {"width": self.width, "sources": list(self.sources)}
        (folder / "about.json").write_text(json.dumps(about | facts))


def pack_set(
    samples: Iterable[TrainSample], files: StudentFiles, folder: Path, *, name: str
) -> PackedSet:
    """Write a training set's arrays into `folder`, or keep those of the same `name`; open them.

    Raises TrainingError for a sample that cannot be learned by this student, and for none at all.
    """
    about = {"version": VERSION, "name": name, "vision": files.vision_fingerprint}
    stored = folder / "about.json"
    if stored.is_file() and about.items() <= json.loads(stored.read_text()).items():
        return PackedSet(folder)
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with (fresh / "tokens.bin").open("wb") as tokens:
        columns = _Columns(tokens)
        for row in rows_of(samples, files):
            columns.add(row)
    if not columns.num_questions:
        raise TrainingError(
            f"Training set '{name}' must hold questions whose right answers are known. Got none."
        )
    columns.save(fresh, about)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(fresh, folder)
    return PackedSet(folder)


@dataclass(frozen=True)
class RowBatch:
    """Rows of a step, one behind the other.

    ids_T, positions_3T, branches (of each row), is_visual_T, tokens_ND: as in `Row`.
    wanted_P: flat places of the states that predict a token, targets_P: these tokens.
    question_P: which question of the batch each belongs to. allowed: (row of P, id) pairs;
    closed_P: whether only those may stand there. sources: of each question.
    """

    ids_T: torch.Tensor
    positions_3T: torch.Tensor
    branches: tuple[NDArray[np.int16], ...]
    visual_N: torch.Tensor
    tokens_ND: torch.Tensor
    wanted_P: torch.Tensor
    targets_P: torch.Tensor
    question_P: torch.Tensor
    allowed_A2: torch.Tensor
    closed_P: torch.Tensor
    sources: tuple[str, ...] = field(default=())


class PackedSet:
    """The arrays of a training set, on disk."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text())
        self.sources: list[str] = about["sources"]
        self._arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FLAT}
        tokens = np.memmap(folder / "tokens.bin", dtype=np.int16, mode="r")
        self._tokens_ND = tokens.reshape(-1, about["width"])
        self.lengths_R = np.diff(self._arrays["token_ends"], prepend=0)
        ends = self._arrays["predicted_ends"]
        last = self._arrays["questions"][ends - 1]
        self.questions_R = np.diff(last, prepend=-1)
        """(R,) questions of each row."""

    @property
    def num_rows(self) -> int:
        """Rows of the set."""
        return len(self.lengths_R)

    @property
    def num_questions(self) -> int:
        """Questions of the set."""
        return len(self._arrays["source_of"])

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> RowBatch:
        """Return these rows, one behind the other."""
        a = self._arrays
        spans = {name: [self._span(name, int(row)) for row in rows] for name in _ENDS}
        tokens, visual, predicted = (spans[name] for name in _ENDS)
        starts = np.cumsum([0, *(s.stop - s.start for s in tokens)])[:-1]
        ids = np.concatenate([a["ids"][s] for s in tokens]).astype(np.int64)
        places = [a["positions"][3 * s.start : 3 * s.stop] for s in tokens]
        questions = np.concatenate([a["questions"][s] for s in predicted])
        numbers, question_P = np.unique(questions, return_inverse=True)
        pairs, closed = self._allowed(predicted)
        bits = np.concatenate([self._tokens_ND[s] for s in visual])
        return RowBatch(
            ids_T=torch.from_numpy(ids),
            positions_3T=torch.from_numpy(np.concatenate(places).reshape(-1, 3).T.astype(np.int64)),
            branches=tuple(np.asarray(a["branches"][s]) for s in tokens),
            visual_N=_shifted(a["visual"], visual, starts),
            tokens_ND=torch.from_numpy(bits).view(torch.bfloat16),
            wanted_P=_shifted(a["columns"], predicted, starts),
            targets_P=torch.from_numpy(
                np.concatenate([a["targets"][s] for s in predicted]).astype(np.int64)
            ),
            question_P=torch.from_numpy(question_P),
            allowed_A2=pairs,
            closed_P=closed,
            sources=tuple(self.sources[i] for i in a["source_of"][numbers]),
        )

    def _span(self, ends: str, row: int) -> slice:
        array = self._arrays[ends]
        return slice(int(array[row - 1]) if row else 0, int(array[row]))

    def _allowed(self, predicted: Sequence[slice]) -> tuple[torch.Tensor, torch.Tensor]:
        rows, ids, closed, at = [], [], [], 0
        for span in predicted:
            for p in range(span.start, span.stop):
                own = self._arrays["allowed"][self._span("allowed_ends", p)]
                ids.append(own)
                rows.append(np.full(len(own), at))
                closed.append(len(own) > 0)
                at += 1
        pairs = np.stack([np.concatenate(rows), np.concatenate(ids)], axis=1).astype(np.int64)
        return torch.from_numpy(pairs), torch.tensor(closed)


_ENDS = ("token_ends", "visual_ends", "predicted_ends")


def _shifted(
    values: NDArray[Any], spans: Sequence[slice], starts: NDArray[np.int64]
) -> torch.Tensor:
    """Return places within rows as places within the batch."""
    moved = [values[s] + start for s, start in zip(spans, starts, strict=True)]
    return torch.from_numpy(np.concatenate(moved).astype(np.int64))
