"""Which checkpoint the student answers with, changed while it serves.

    marc reload CHECKPOINT --> file --every look_s--> each student replica, one after the other:
        check everything that can be checked, from the file
        let nobody in, wait until what is under way has ended on the old weights
        load, let in who has waited

A checkpoint that does not fit is refused by `marc reload`, and by a replica that finds one all the
same: it says why and answers on with what it has. A replica that starts takes what the file wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marc_core.errors import ConfigError, ModelLoadError

if TYPE_CHECKING:
    from marc_core.config import StudentConfig
    from serving.config import WeightsConfig
    from serving.student import EngineStudent

log = logging.getLogger("marc.serving")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A checkpoint of the student. version: counts up with every change. path: its directory; empty
    for the one that the memory's configuration names."""

    version: int
    path: str


BASE = Weights(version=0, path="")


class WeightsFile:
    """The file that names the weights. student: its name and revision, so that a file of another
    student is not taken for this one's."""

    def __init__(self, path: str | Path, student: StudentConfig) -> None:
        self.path = Path(path)
        self._student = f"{student.model}@{student.revision}"

    def read(self) -> tuple[Weights, Weights]:
        """Return what is wanted, and what was before it. Raises ConfigError for a damaged file."""
        try:
            values = json.loads(self.path.read_text())
            if values["student"] != self._student:
                return BASE, BASE
            return Weights(**values["wanted"]), Weights(**values["before"])
        except FileNotFoundError:
            return BASE, BASE
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"The file of weights '{self.path}' cannot be read: {type(error).__name__}: "
                f"{error}. Write it anew with `marc reload`, or delete it."
            ) from error

    def want(self, path: str) -> Weights:
        """Let all replicas load this checkpoint; return it with its version."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.alone():
            before, _ = self.read()
            new = Weights(version=before.version + 1, path=path)
            values = {"student": self._student, "wanted": asdict(new), "before": asdict(before)}
            handle, part = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            with os.fdopen(handle, "w") as file:
                json.dump(values, file)
            os.chmod(part, 0o644)
            os.replace(part, self.path)
        return new

    @contextmanager
    def alone(self, name: str = "lock", *, wait: bool = True) -> Iterator[None]:
        """Keep other processes out of this block. Raises BlockingIOError unless `wait`."""
        with open(self.path.parent / f".{self.path.name}.{name}", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


def check_checkpoint(path: str, student: StudentConfig, *, whole: bool) -> None:
    """Raise ModelLoadError unless the student can take this checkpoint. whole: read all of it."""
    from marc_core.models.student_files import StudentFiles
    from marc_core.models.weight_update import check_weights

    if Path(path, "adapter_config.json").is_file():
        raise ModelLoadError(
            f"'{path}' is a LoRA adapter. Merge it into its student first (peft: "
            "merge_and_unload, then save_pretrained), and name the merged checkpoint."
        )
    files = StudentFiles(student)
    tied = bool(getattr(files.model_config, "tie_word_embeddings", False))
    check_weights(Path(path), directory=files.directory, tied=tied, whole=whole)


class Gate:
    """Lets many in at once, or one alone when all of them have left."""

    def __init__(self) -> None:
        self._inside = 0
        self._closed: asyncio.Future[None] | None = None
        self._emptied: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def inside(self) -> AsyncIterator[int]:
        """Wait until nobody is alone, and be one of many in this block; give how many."""
        while self._closed is not None:
            await asyncio.shield(self._closed)
        self._inside += 1
        try:
            yield self._inside
        finally:
            self._inside -= 1
            if not self._inside and self._emptied is not None and not self._emptied.done():
                self._emptied.set_result(None)

    @asynccontextmanager
    async def alone(self, wait_s: float) -> AsyncIterator[None]:
        """Let nobody in, wait until all have left, and be alone in this block. Raises TimeoutError
        where they take longer than `wait_s`."""
        loop = asyncio.get_running_loop()
        self._closed, self._emptied = loop.create_future(), loop.create_future()
        try:
            if self._inside:
                async with asyncio.timeout(wait_s):
                    await self._emptied
            yield
        finally:
            self._closed.set_result(None)
            self._closed = self._emptied = None


class Reloader:
    """Keeps one student at the weights that a file names."""

    def __init__(self, own: EngineStudent, config: WeightsConfig, student: StudentConfig) -> None:
        self.own, self.config, self._student = own, config, student
        self._file = WeightsFile(config.file, student)
        self._seen = self._loaded = BASE
        self._reason = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what the file wants, or what was before it; then look again and again.

        Raises ModelLoadError where neither can be loaded.
        """
        wanted, before = self._file.read()
        for weights in (wanted, before):
            if await self._is_good(weights):
                await self._load(weights)
                break
        else:
            raise ModelLoadError(f"The student has no weights that fit: {self._reason}")
        self._seen = wanted
        self._task = asyncio.create_task(self._run())

    async def look(self) -> None:
        """Load what the file wants, unless it is loaded, was refused, or another replica loads."""
        wanted, _ = await asyncio.to_thread(self._file.read)
        if wanted == self._seen:
            return
        if not await self._is_good(wanted):
            self._seen = wanted
            return
        with contextlib.suppress(BlockingIOError), self._file.alone("turn", wait=False):
            await self._load(wanted)
            self._seen = wanted

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.config.look_s)
            try:
                await self.look()
            except TimeoutError:
                log.warning("new weights wait: answers under way take long")
            except Exception:  # the old weights answer on
                log.exception("looking for new weights")

    async def _is_good(self, weights: Weights) -> bool:
        try:
            if weights.path:
                await asyncio.to_thread(check_checkpoint, weights.path, self._student, whole=True)
        except ModelLoadError as error:
            # /ready shows it to everybody: without the names of the server's folders.
            self.own.weights_problem = f"weights {weights.version} are refused: the log says why"
            self._reason = str(error)
            log.error("weights are refused: %s", error, extra=asdict(weights))
            return False
        return True

    async def _load(self, weights: Weights) -> None:
        if weights.path == self._loaded.path == "":
            return
        started = time.perf_counter()
        await self.own.load(weights, back_to=self._loaded, wait_s=self.config.drain_s)
        self._loaded = weights
        more: dict[str, Any] = asdict(weights)
        more["seconds"] = round(time.perf_counter() - started, 3)
        log.info("weights loaded", extra=more)
