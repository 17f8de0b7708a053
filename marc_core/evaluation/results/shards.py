"""Where predictions wait until a run is complete: Parquet files, one a video, written whole.

    <output>/shards/<run fingerprint>/<hash of video and variants>-<attempt>.parquet

The name is derived from what the shard holds and the attempt that made it, so a repeated write
replaces it, and an attempt can tell its own predictions from those it was to improve. Folder or
bucket address (s3://, gs://), whatever pyarrow can open.
"""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Iterable, Sequence

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from marc_core.errors import ConfigError
from marc_core.evaluation.results.prediction import ANSWERED, Prediction, from_table, to_table


class Shards:
    """The shards of one run. It may travel to workers.

    attempt: letters and digits that name one call of the run.
    """

    def __init__(self, output: str, run: str, attempt: str = "0") -> None:
        self.files = Files(output)
        self.folder = f"shards/{run}"
        self.suffix = f"-{attempt}.parquet"

    def write(self, predictions: Sequence[Prediction]) -> None:
        """Write the predictions of one video, all at once."""
        variants = sorted({o.variant for o in predictions})
        text = "\0".join([predictions[0].video, *variants])
        name = hashlib.sha256(text.encode()).hexdigest()[:20]
        sink = io.BytesIO()
        pq.write_table(to_table(predictions), sink)
        self.files.write(f"{self.folder}/{name}{self.suffix}", sink.getvalue())

    def read(self, *, own: bool = False) -> list[Prediction]:
        """Return all predictions, or this attempt's `own`; of two for the same, an answer wins."""
        best: dict[tuple[str, str], Prediction] = {}
        for data in self.files.read_all(self.folder, self.suffix if own else ".parquet"):
            for prediction in from_table(pq.read_table(io.BytesIO(data))):
                key = (prediction.problem_id, prediction.variant)
                if key not in best or prediction.status == ANSWERED:
                    best[key] = prediction
        return list(best.values())

    def count(self) -> int:
        """Return the number of this attempt's shards, for progress."""
        return len(self.files.names(self.folder, self.suffix))


class Files:
    """Whole files below a folder or bucket address."""

    def __init__(self, root: str) -> None:
        """Raises ConfigError for an address that pyarrow cannot open."""
        try:
            if "://" in root:
                self.fs, self.root = pafs.FileSystem.from_uri(root)
            else:
                self.fs, self.root = pafs.LocalFileSystem(), os.path.abspath(root)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"output must be a folder or an address such as s3://bucket/folder. "
                f"Got '{root}' ({error})."
            ) from error

    def path(self, name: str) -> str:
        """Return the full path of a file."""
        return f"{self.root}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that no reader sees half of it."""
        path = self.path(name)
        local = isinstance(self.fs, pafs.LocalFileSystem)
        if local:
            self.fs.create_dir(path.rsplit("/", 1)[0], recursive=True)
        part = f"{path}.{uuid.uuid4().hex[:8]}.part" if local else path
        with self.fs.open_output_stream(part) as stream:
            stream.write(data)
        if local:
            self.fs.move(part, path)

    def names(self, folder: str, suffix: str) -> list[str]:
        """Return the paths of a folder's files with this suffix, sorted."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        return sorted(i.path for i in self.fs.get_file_info(selector) if i.path.endswith(suffix))

    def read_all(self, folder: str, suffix: str) -> Iterable[bytes]:
        """Yield the contents of a folder's files with this suffix."""
        for path in self.names(folder, suffix):
            with self.fs.open_input_stream(path) as stream:
                yield stream.read()
