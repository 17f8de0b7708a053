"""An open memory with the models that it was indexed with: what a notebook and `marc ask` hold.

    session = marc_core.open("runs/memory")
    session.search("a red circle")          text encoder
    session.ask("What moves left?")         and student
    session.events("clip.mp4")              nothing

Models are loaded when they are first needed: a search loads no language model, a list of events no
model at all.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marc_core import checks
from marc_core.config import AnswerConfig
from marc_core.configure import load_config, quoted
from marc_core.display import Reply, Results
from marc_core.errors import AnswerError, ConfigError, ModelLoadError
from marc_core.footage import nothing_said, search_note
from marc_core.named import named_video
from marc_core.question import EventFilter, Question, Sampling, SearchQuery, Turn
from marc_core.recorded.moments import parse_moment
from marc_core.searching import Searcher, picture_of

if TYPE_CHECKING:
    from marc_core.answer import Answerer
    from marc_core.archive import SearchHit
    from marc_core.embed import DualEncoder
    from marc_core.memory import MemoryStore
    from marc_core.memory.archive import MemoryArchive
    from marc_core.models.student_files import StudentFiles
    from marc_core.models.transformers_engine import TransformersEngine
    from marc_core.models.vision_tower import VisionTower
    from marc_core.models.vllm_engine import VllmEngine
    from marc_core.prepare import Preparer

EVERY_EVENT = 100_000
"""Most events that `Session.events` returns (our choice: a video has a few thousand at most)."""


class Session:
    """A memory that can be searched and asked. Made by `open_session`."""

    def __init__(self, store: MemoryStore, config: AnswerConfig) -> None:
        self.store, self.config = store, config

    def __repr__(self) -> str:
        return f"<marc memory {self.config.memory.uri!r}, student {self.config.student.model!r}>"

    def search(
        self,
        text: str | None = None,
        *,
        image: bytes | str | Path | None = None,
        like: str | None = None,
        limit: int = 10,
        offset: int = 0,
        **where: Any,
    ) -> Results:
        """Return the events that fit, best first: a description, an example picture (a file or
        its bytes), or the id of an event to find more like.

        where: see `filter`. Raises AnswerError.
        """
        query = SearchQuery(
            text=text,
            image=read_image(image),
            event_id=like,
            filter=self.filter(**where),
            limit=limit,
            offset=offset,
        )
        hits = self.searcher.search([query])[0]
        blind = bool(self.archive.blind_videos())
        passing = query.filter
        if blind and text and not hits and not offset and self.archive.events(passing, limit=1):
            return Results((), self.archive.thumbnails, nothing_said(self.config.memory.uri))
        found = self._results(hits, query.filter, offset)
        found.note = search_note(self.config.memory.uri) if blind else ""
        return found

    def ask(
        self,
        text: str,
        *,
        options: Sequence[str] = (),
        history: Sequence[tuple[str, str] | Turn] = (),
        k: int | None = None,
        budget_tokens: int | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        n: int = 1,
        **where: Any,
    ) -> Reply:
        """Return the answer to a question, with the events that it rests on.

        options: of a multiple-choice question, in order A, B, .... history: earlier turns as
        (role, text), role "user" or "assistant". The rest as in `Question`; where: see `filter`.
        Raises AnswerError.
        """
        question = Question(
            text=text,
            options=checks.texts("options", options),
            history=tuple(h if isinstance(h, Turn) else _turn(h) for h in history),
            filter=self.filter(**where),
            k=k,
            budget_tokens=budget_tokens,
            sampling=Sampling(
                temperature=temperature,
                max_tokens=max_tokens,
                seed=seed,
                stop=checks.texts("stop", stop),
                n=n,
            ),
        )
        answer = self.answerer.answer([question])[0]
        return Reply(answer, self.archive.thumbnails, self.config.clock.zone)

    def events(
        self, video: str | None = None, *, limit: int = EVERY_EVENT, **where: Any
    ) -> Results:
        """Return the events of a video, or all that pass the filter, in order of time."""
        limit = checks.whole("limit", limit, least=1)
        passing = self.filter(video=video, **where)
        return self._results(self.archive.events(passing, limit=limit), passing)

    def _results(self, hits: Sequence[SearchHit], passing: EventFilter, offset: int = 0) -> Results:
        nothing = ""
        if not hits and offset and self.archive.events(passing, limit=1):
            nothing = f"The ranking ends before its event number {offset + 1:,}."
        elif not hits:
            nothing = self.archive.why_nothing(passing)
        return Results(hits, self.archive.thumbnails, nothing, self.config.clock.zone)

    def filter(
        self,
        *,
        video: str | Sequence[str] | None = None,
        folder: str | Path | None = None,
        camera: str | None = None,
        tags: str | Sequence[str] = (),
        since: str | dt.datetime | None = None,
        until: str | dt.datetime | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        kinds: str | Sequence[str] = (),
    ) -> EventFilter:
        """Return the filter of what people write.

        video: id, address or file name of one video or several. since, until: wall clock: ISO
        8601, "2h" (ago), "yesterday" and more (marc_core.recorded.moments). start_s, end_s: seconds
        from the video's own 0:00. kinds: of text: sidecar, speech, writing, caption. The rest as in
        `EventFilter`. Raises AnswerError for an unknown video, and for a time without a zone where
        `clock.zone` is not set.
        """
        names = [video] if isinstance(video, str) else video
        if names is not None:
            names = checks.texts("video", names)
        return EventFilter(
            video_ids=None if names is None else tuple(self.video_id(name) for name in names),
            folder=folder_address(folder),
            camera=camera,
            tags=checks.texts("tags", [tags] if isinstance(tags, str) else tags),
            recorded_from=self._moment("since", since),
            recorded_to=self._moment("until", until),
            start_s=start_s,
            end_s=end_s,
            kinds=checks.texts("kinds", [kinds] if isinstance(kinds, str) else kinds),
        )

    def _moment(self, name: str, value: str | dt.datetime | None) -> dt.datetime | None:
        return None if value is None else parse_moment(name, value, zone=self.config.clock.zone)

    def video_id(self, name: str) -> str:
        """Return the id of a video named by id, address, path or file name. Raises AnswerError."""
        return str(named_video(self.store, name)["video_id"])

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and threads of models that were loaded. The session is over then."""
        if "engine" in self.__dict__:
            self.engine.close()
        if "archive" in self.__dict__:
            self.archive.close()

    # Models, each loaded when it is first needed

    @cached_property
    def encoder(self) -> DualEncoder:
        """The dual encoder that events were embedded with. Raises MemoryStoreError for another."""
        from marc_core.embed import load_encoder

        self._suit_threads()
        encoder = load_encoder(self.config.encoder)
        self.store.check_encoder(encoder.dim, encoder.fingerprint)
        return encoder

    @cached_property
    def files(self) -> StudentFiles:
        """The student without its weights."""
        from marc_core.models.student_files import StudentFiles

        return StudentFiles(self.config.student)

    def _suit_threads(self) -> None:
        """Use as many threads as a small student wants; that holds for its encoder, too."""
        import torch

        from marc_core.models.checkpoints import local_directory
        from marc_core.models.model_settings import model_settings

        name, revision = self.config.student.model, self.config.student.revision
        try:
            directory = local_directory("student", name, revision, download=False)
        except ModelLoadError:  # a search needs no student; a question says what is wrong with it
            return
        settings = model_settings(directory)
        if settings.is_small:
            torch.set_num_threads(settings.threads)

    @cached_property
    def archive(self) -> MemoryArchive:
        """The memory as an Archive."""
        from marc_core.memory.archive import MemoryArchive

        return MemoryArchive(self.store, self.config)

    @cached_property
    def searcher(self) -> Searcher:
        """The memory with its encoder: what a search needs, and no student."""
        return Searcher(self.archive, self.encoder)

    @cached_property
    def preparer(self) -> Preparer:
        """The half of the question path that needs no language model."""
        return self.make_preparer(from_frames=True)

    def make_preparer(self, *, from_frames: bool) -> Preparer:
        """Return a `preparer`. from_frames: whether it decodes and encodes where features are
        missing; else that is an error."""
        from marc_core.prepare import Preparer
        from marc_core.prepared import PrepareSettings

        return Preparer(
            self.archive,
            self.encoder,
            self.files,
            PrepareSettings.of(self.config, self.files.settings),
            tower=self._load_tower if from_frames else None,
        )

    @cached_property
    def answerer(self) -> Answerer:
        """The whole question path."""
        from marc_core.answer import Answerer

        return Answerer(self.preparer, self.engine, self.config)

    @cached_property
    def engine(self) -> TransformersEngine | VllmEngine:
        """The student."""
        from marc_core.models.engines import load_engine

        return load_engine(self.config.student)

    def _load_tower(self) -> VisionTower:
        return self._tower

    @cached_property
    def _tower(self) -> VisionTower:
        from marc_core.models.vision_tower import VisionTower

        return VisionTower(self.config.student)


def open_session(
    uri: str | Path | None = None,
    *,
    preset: str | None = None,
    files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
) -> Session:
    """Open the memory at `uri` (a folder or a bucket's address) with its models.

    The memory knows the configuration that it was indexed with, so nothing else need be named:
    the models are those of the last indexing run unless `preset`, `files` (YAML) or `overrides`
    (key=value) say more. Raises MemoryStoreError, ConfigError.
    """
    from marc_core.memory import MemoryStore

    given = [*overrides]
    if uri is not None:
        given.append(f"memory.uri={quoted(str(uri))}")
    first = load_config(AnswerConfig, preset=preset or "tiny", files=files, overrides=given)
    store = MemoryStore.open(first.memory)
    if preset is not None:
        return Session(store, first)
    stored = store.last_config()
    if stored is None:
        raise ConfigError(
            f"The memory '{first.memory.uri}' records no indexing run, so its models are "
            "unknown. Name them with --preset, or index into it first."
        )
    config = load_config(AnswerConfig, stored=stored, files=files, overrides=given)
    return Session(store, dataclasses.replace(config, memory=first.memory))


def read_image(image: bytes | str | Path | None) -> bytes | None:
    """Return the bytes of an image given as a file or as bytes. Raises AnswerError."""
    if image is None or isinstance(image, bytes):
        return image
    if not isinstance(image, str | Path):
        raise AnswerError(f"The image must be a file's name or its bytes. Got {image!r:.80}.")
    try:
        data = Path(image).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise AnswerError(f"The image '{image}' cannot be read: {why}.") from error
    picture_of(data, f"The image '{image}'")  # here its name is known
    return data


def folder_address(name: str | Path | None) -> str | None:
    """Return a folder as an address or an absolute path."""
    if name is None:
        return None
    text = checks.text("folder", os.fspath(name) if isinstance(name, Path) else name)
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def _turn(pair: Any) -> Turn:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise AnswerError(f"An earlier turn must be a pair (role, text). Got {pair!r:.80}.")
    return Turn(role=pair[0], text=pair[1])
