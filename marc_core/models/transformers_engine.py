"""The student on stock transformers, many questions at once, each streaming.

    generate(requests) --waiting--> [ worker thread, one step at a time                 ]
         ^                          [   commands: abort, load_weights, health           ]
         |                          [   admit: prefill what waits, join it to a batch   ]
         +------ deltas, completions[   step every batch; rows that are done leave      ]

`model.generate()` streams one row only, so the loop over steps is our own: stock model, stock
cache. Greedy answers equal `generate()` token for token. Only the worker thread touches the model.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch

from marc_core.config import StudentConfig
from marc_core.errors import EngineError, MarcError
from marc_core.models.decoding import Decoder, DecodingBatch, Row, joined_waste
from marc_core.models.engine import Completion, Delta, EngineSpec, GenerationRequest
from marc_core.models.engine_calls import Call, check_ids, rows_of
from marc_core.models.inputs import prompt_tokens
from marc_core.models.loading import load_model
from marc_core.models.sampling import end_ids, suppressed_ids
from marc_core.models.student_files import StudentFiles
from marc_core.models.weight_update import update_weights

MAX_ROWS = 64
"""Samples decoded at once (our choice)."""
PREFILL_TOKENS = 16_384
"""Prompt tokens computed in one call, padding included (our choice: six prompts of 64 frames)."""
MAX_WASTE = 1.25
"""A batch joins another where their padded caches are at most this multiple of their own size;
else they take turns (our choice)."""


class TransformersEngine:
    """A StudentEngine (marc_core.models.engine) in this process.

    max_rows: samples decoded at once. join: whether requests that come later join a batch that is
    under way; else they wait for it to end. Close it after use, or use it as a context manager.
    """

    def __init__(
        self, config: StudentConfig, *, max_rows: int = MAX_ROWS, join: bool = True
    ) -> None:
        self.config, self.max_rows, self.join = config, max_rows, join
        self.files = StudentFiles(config)
        self.model, self.device, self.dtype = load_model(config)
        tokenizer = self.files.tokenizer
        self._end_ids = end_ids(self.model.generation_config, tokenizer)
        self._suppressed = suppressed_ids(self.files.model_config)
        pad_id = tokenizer.pad_token_id
        self._decoder = Decoder(
            self.model,
            self.files.adapter,
            device=self.device,
            dtype=self.dtype,
            pad_id=self._end_ids[0] if pad_id is None else pad_id,
            end_ids=self._end_ids,
        )
        self.weights_version = 0
        self._calls: dict[str, Call] = {}
        self._waiting: deque[list[Row]] = deque()
        self._batches: list[DecodingBatch] = []
        self._commands: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._changed = threading.Condition()
        self._failure: MarcError | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="marc-engine", daemon=True)
        self._thread.start()

    @property
    def spec(self) -> EngineSpec:
        """What this engine is and can express."""
        return EngineSpec(
            model=self.config.model,
            fingerprint=self.files.vision_fingerprint,
            kv_bytes_per_token=kv_bytes_per_token(self.files.model_config, self.dtype),
            own_positions=True,
            max_seconds=self.files.settings.max_seconds,
        )

    async def generate(
        self, requests: Sequence[GenerationRequest]
    ) -> AsyncIterator[Delta | Completion]:
        """Yield what the samples gain, and a Completion for each; see StudentEngine.

        A caller that stops reading early takes its requests back.
        """
        samples = [self._rows(request) for request in requests]
        call, left = Call(), sum(map(len, samples))
        self._submit(requests, samples, call)
        try:
            while left:
                item = await call.results.get()
                if isinstance(item, MarcError):
                    raise item
                left -= isinstance(item, Completion)
                yield item
        finally:
            self._forget(call, abort=left > 0)

    async def abort(self, request_id: str) -> None:
        """End a request before the next step; unknown and finished ones are left alone."""
        await self._command(lambda: self._abort(lambda row: row.request_id == request_id))

    async def load_weights(
        self, weights: Path | Mapping[str, torch.Tensor], version: int, *, lora: bool = False
    ) -> None:
        """Replace the language model's weights between two steps; see StudentEngine.

        A completion carries the version that drew its first token.
        """

        def replace() -> None:
            update_weights(self.model, weights, lora=lora, directory=self.files.directory)
            self.weights_version = version

        await self._command(replace)

    async def health(self) -> None:
        """Return when the worker has answered, after the step that is under way."""
        await self._command(lambda: None)

    def close(self) -> None:
        """Abort what is under way and end the worker thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> TransformersEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Called on the caller's thread.

    def _rows(self, request: GenerationRequest) -> list[Row]:
        return rows_of(
            request,
            self.config,
            self.files,
            end_ids=self._end_ids,
            suppressed_ids=self._suppressed,
        )

    def _submit(
        self, requests: Sequence[GenerationRequest], samples: list[list[Row]], call: Call
    ) -> None:
        with self._changed:
            self._check_alive()
            check_ids(requests, self._calls)
            self._calls.update(dict.fromkeys((request.id for request in requests), call))
            for row in (row for rows in samples for row in rows):
                row.owner = call
            self._waiting.extend(samples)
            self._changed.notify()

    def _forget(self, call: Call, *, abort: bool) -> None:
        """Free the ids of a call whose reader has left, and end what is still under way."""
        with self._changed:
            self._calls = {i: other for i, other in self._calls.items() if other is not call}
            if abort and self._failure is None:
                self._commands.append((lambda: self._abort(lambda r: r.owner is call), Future()))
                self._changed.notify()

    async def _command(self, work: Callable[[], None]) -> None:
        done: Future[None] = Future()
        with self._changed:
            self._check_alive()
            self._commands.append((work, done))
            self._changed.notify()
        await asyncio.wrap_future(done)

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise EngineError("The engine is closed. Build a new one.")

    # Called on the worker thread.

    def _run(self) -> None:
        if self.files.settings.threads and self.device.type == "cpu":
            torch.set_num_threads(self.files.settings.threads)
        error: MarcError = EngineError("The engine was closed before the answer was complete.")
        try:
            with torch.inference_mode():
                while self._turn():
                    pass
        except MarcError as cause:
            error = cause
        except Exception as cause:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            error = EngineError(
                f"The engine stopped at a step: {type(cause).__name__}: {cause}. Start it again; "
                "with fewer rows where memory ran out."
            )
            error.__cause__ = cause
        self._fail(error)

    def _turn(self) -> bool:
        """Commands, new requests, one step. Returns False when the engine is closed."""
        with self._changed:
            while not (self._closing or self._commands or self._waiting or self._batches):
                self._changed.wait()
            if self._closing:
                return False
        self._run_commands()
        self._admit()
        for batch in self._batches:
            self._deliver(batch, batch.step())
        self._batches = [batch for batch in self._batches if batch.rows]
        return True

    def _run_commands(self) -> None:
        while True:
            with self._changed:
                if not self._commands:
                    return
                work, done = self._commands.popleft()
            try:
                work()
            except MarcError as error:
                done.set_exception(error)
            except BaseException as error:
                done.set_exception(EngineError(f"The engine stopped: {error}. Start it again."))
                raise
            else:
                done.set_result(None)

    def _admit(self) -> None:
        """Prefill what waits as far as there is room, and join it to a batch under way."""
        while True:
            samples = self._next_samples()
            if not samples:
                return
            for row in (row for rows in samples for row in rows):
                row.weights_version = self.weights_version
            batch, deltas = self._decoder.prefill(samples)
            self._deliver(batch, deltas)
            if not batch.rows:
                continue
            for running in self._batches:
                if joined_waste(running, batch) <= MAX_WASTE:
                    running.join(batch)
                    break
            else:
                self._batches.append(batch)

    def _next_samples(self) -> list[list[Row]]:
        """Return the requests to read now, in the order of their arrival."""
        running = sum(len(batch.rows) for batch in self._batches)
        taken: list[list[Row]] = []
        longest = 0
        with self._changed:
            while self._waiting and (self.join or not self._batches):
                rows = self._waiting[0]
                longest = max(longest, prompt_tokens(rows[0].evidence))
                full = running and running + len(rows) > self.max_rows
                if full or (taken and longest * (len(taken) + 1) > PREFILL_TOKENS):
                    break
                running += len(rows)
                taken.append(self._waiting.popleft())
        return taken

    def _deliver(self, batch: DecodingBatch, deltas: Sequence[Delta]) -> None:
        items = list(zip((row.owner for row in batch.rows), deltas, strict=True))
        done = [(row.owner, row.completion()) for row in batch.remove_done()]
        _send([*items, *done])

    def _abort(self, chosen: Callable[[Row], bool]) -> None:
        with self._changed:
            ended = [row for rows in self._waiting for row in rows if chosen(row)]
            self._waiting = deque(rows for rows in self._waiting if not chosen(rows[0]))
        for row in ended:
            row.finish_reason = "abort"
        for batch in self._batches:
            for row in batch.rows:
                if chosen(row):
                    row.finish_reason = "abort"
            ended += batch.remove_done()
        self._batches = [batch for batch in self._batches if batch.rows]
        _send([(row.owner, row.completion()) for row in ended])

    def _fail(self, error: MarcError) -> None:
        with self._changed:
            self._failure = error
            calls, commands = set(self._calls.values()), list(self._commands)
            self._commands.clear()
            self._waiting.clear()
            self._batches.clear()
        for _, done in commands:
            done.set_exception(error)
        for call in calls:
            call.put([error])


def _send(items: Sequence[tuple[Call, Delta | Completion]]) -> None:
    """Hand results to their calls, each call's in one go."""
    by_call: dict[Call, list[Delta | Completion | MarcError]] = {}
    for call, item in items:
        by_call.setdefault(call, []).append(item)
    for call, own in by_call.items():
        call.put(own)


def kv_bytes_per_token(model_config: Any, dtype: torch.dtype) -> int:
    """Return the key-value cache of one token: 2 x layers x KV heads x head size x bytes."""
    text = model_config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * text.num_key_value_heads * head * dtype.itemsize)
