"""What the full-token teacher has answered, on disk: epoch two and the next run cost nothing.

    <place>/<teacher>/<name>.jsonl     one line a question: its key and the teacher's texts

<teacher> is a fingerprint of its weights and of how it was asked, a key one of the question and of
the training set's features. Files are written whole and never changed, so that several runs may
share a place, a folder or a bucket.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence

from jobs.training.stores import files_below, opened, write_whole
from marc_core.rl.samples import TrainSample

FLUSH = 64
"""Questions of one file; what a killed run asks again at most (our choice)."""


class TeacherCache:
    """The answers of one teacher, asked in one way."""

    def __init__(self, place: str, teacher: str, options: Mapping[str, str]) -> None:
        self._store, root = opened(place, options)
        self._folder = f"{root}/{teacher}"
        self._known: dict[str, tuple[str, ...]] = {}
        self._fresh: dict[str, tuple[str, ...]] = {}
        for info in files_below(self._store, self._folder, ".jsonl"):
            with self._store.open_input_stream(info.path) as stream:
                for line in stream.read().splitlines():
                    row = json.loads(line)
                    self._known[row["key"]] = tuple(row["texts"])

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> tuple[str, ...] | None:
        """Return the teacher's texts, None where it has not been asked."""
        return self._known.get(key)

    def put(self, key: str, texts: Sequence[str]) -> None:
        """Keep what the teacher said; written with the next `flush`, or when there is enough."""
        self._known[key] = self._fresh[key] = tuple(texts)
        if len(self._fresh) >= FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._fresh:
            rows = ({"key": key, "texts": texts} for key, texts in self._fresh.items())
            text = "".join(json.dumps(row) + "\n" for row in rows)
            write_whole(self._store, f"{self._folder}/{uuid.uuid4().hex}.jsonl", text.encode())
            self._fresh = {}


def key_of(sample: TrainSample, train_set: str) -> str:
    """Return the key of a question. train_set: fingerprint of the set that it stands in."""
    asked = json.dumps(sample.question.to_json(), sort_keys=True)
    return hashlib.sha256(f"{train_set}\0{sample.id}\0{asked}".encode()).hexdigest()[:32]
