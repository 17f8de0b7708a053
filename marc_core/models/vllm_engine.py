"""The student on stock vLLM, behind the extra `vllm`: continuous batching on GPUs.

    generate(requests) --rows--> [ event loop of a thread of its own, one task a sample ]
         ^                       [   AsyncLLM.generate --tokens--> Row.push            ]  --> vLLM
         +--- deltas, completions[   abort: the task is cancelled                      ]
                                 [   load_weights: drain, reload, reset caches, go on  ]

Visual tokens enter as precomputed `video_embeds` with their grid; the vision tower is not loaded.
vLLM computes positions from the grid and a spacing, so that evidence must be a plain video
(`video_grid`). Texts, stop texts and log-probabilities are those of TransformersEngine: vLLM gives
token ids, under the same rule of what may be drawn (`vllm_tokens`).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from marc_core.config import StudentConfig
from marc_core.errors import AnswerError, EngineError, MarcError, ModelLoadError
from marc_core.models.decoding import Row
from marc_core.models.engine import Completion, Delta, EngineSpec, GenerationRequest
from marc_core.models.engine_calls import Call, check_ids, rows_of
from marc_core.models.loop_thread import LoopThread
from marc_core.models.sampling import suppressed_ids
from marc_core.models.student_files import StudentFiles
from marc_core.models.transformers_engine import kv_bytes_per_token
from marc_core.models.vision_tower import dtype_of
from marc_core.models.vllm_requests import (
    check_device,
    check_family,
    check_installed,
    engine_arguments,
    failure_of,
    fit_rows,
    pushed,
    sampling_params,
    stored_end_ids,
    vllm_prompt,
)
from marc_core.models.weight_update import weights_directory


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """A row, and vLLM's prompt and sampling parameters for it."""

    row: Row
    prompt: dict[str, Any]
    params: Any


class VllmEngine:
    """A StudentEngine (marc_core.models.engine) on vLLM. Starting takes minutes.

    options: further arguments of vLLM's AsyncEngineArgs (max_model_len, gpu_memory_utilization,
    tensor_parallel_size, enforce_eager, ...). Close it after use, or use it as a context manager.
    Raises ModelLoadError where vLLM is missing or refuses the checkpoint.
    """

    def __init__(self, config: StudentConfig, *, options: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.files = StudentFiles(config)
        check_family(self.files)
        check_installed()
        self.dtype = dtype_of(config, self.files.directory)
        self._end_ids = stored_end_ids(self.files)
        self._suppressed = suppressed_ids(self.files.model_config)
        self.weights_version = 0
        self._failure: MarcError | None = None
        self._calls: dict[str, Call] = {}
        self._tasks: dict[asyncio.Task[None], tuple[str, Call]] = {}
        self._drawing: set[asyncio.Task[None]] = set()
        arguments = engine_arguments(self.files.directory, self.dtype, options or {})
        self._loop = LoopThread("marc-vllm")
        try:
            self._engine = self._loop.submit(self._start(arguments)).result()
        except BaseException:
            self._loop.close()
            raise

    @property
    def spec(self) -> EngineSpec:
        """What this engine is and can express."""
        return EngineSpec(
            model=self.config.model,
            fingerprint=self.files.vision_fingerprint,
            kv_bytes_per_token=kv_bytes_per_token(self.files.model_config, self.dtype),
            own_positions=False,
            max_seconds=self.files.settings.max_seconds,
        )

    async def generate(
        self, requests: Sequence[GenerationRequest]
    ) -> AsyncIterator[Delta | Completion]:
        """Yield what the samples gain, and a Completion for each; see StudentEngine.

        A caller that stops reading early takes its requests back.
        """
        samples = [sample for request in requests for sample in self._samples(request)]
        call, left = Call(), len(samples)
        try:
            await self._run(self._begin(requests, samples, call))
            while left:
                item = await call.results.get()
                if isinstance(item, MarcError):
                    raise item
                left -= isinstance(item, Completion)
                yield item
        finally:
            self._loop.call_soon(lambda: self._forget(call))

    async def abort(self, request_id: str) -> None:
        """End a request before the next step; unknown and finished ones are left alone."""
        await self._run(self._cancel(request_id))

    async def load_weights(
        self, weights: Path | Mapping[str, torch.Tensor], version: int, *, lora: bool = False
    ) -> None:
        """Replace the language model's weights; see StudentEngine.

        Samples under way are finished with the old weights first; later ones wait. Tensors pass
        through a temporary directory, which vLLM's processes must see.
        """
        if lora:
            raise ModelLoadError(
                "This engine takes all weights of the language model. Got a LoRA adapter. Merge it "
                "(peft: merge_and_unload) or use the transformers engine."
            )
        tied = bool(getattr(self.files.model_config, "tie_word_embeddings", False))
        with tempfile.TemporaryDirectory(prefix="marc-weights-") as scratch:
            directory = await asyncio.to_thread(
                weights_directory,
                weights, directory=self.files.directory, scratch=Path(scratch), tied=tied,
            )  # fmt: skip
            await self._run(self._replace(directory, version))

    async def health(self) -> None:
        """Return when vLLM's processes are alive."""
        await self._run(self._check_health())

    def close(self) -> None:
        """Abort what is under way and end vLLM's processes."""
        if not self._loop.is_closed:
            self._loop.submit(self._stop()).result()
            self._loop.close()

    def __enter__(self) -> VllmEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Called on the caller's thread.

    def _samples(self, request: GenerationRequest) -> list[_Sample]:
        rows = rows_of(
            request, self.config, self.files,
            end_ids=self._end_ids, suppressed_ids=self._suppressed,
        )  # fmt: skip
        prompt = vllm_prompt(request.evidence, self.files.model_config, self.dtype)
        fit_rows(rows, int(self._engine.model_config.max_model_len))
        seeded = request.sampling.seed is not None
        params = [sampling_params(row, self._end_ids, seeded=seeded) for row in rows]
        return [_Sample(row=r, prompt=prompt, params=p) for r, p in zip(rows, params, strict=True)]

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        if self._failure is not None:
            work.close()
            raise self._failure
        await self._loop.run(work)

    # Called on the engine's event loop.

    async def _start(self, arguments: dict[str, Any]) -> Any:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.exceptions import VLLMError
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        self._open, self._replacing = asyncio.Event(), asyncio.Lock()
        self._open.set()
        check_device(self.config.device, str(current_platform.device_type))
        try:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        except (OSError, ValueError, TypeError, RuntimeError, VLLMError) as error:
            raise ModelLoadError(
                f"vLLM does not start on student '{self.config.model}': {error}. Its own messages "
                "above say more."
            ) from error

    async def _begin(
        self, requests: Sequence[GenerationRequest], samples: Sequence[_Sample], call: Call
    ) -> None:
        check_ids(requests, self._calls)
        self._calls.update(dict.fromkeys((request.id for request in requests), call))
        for sample in samples:
            task = asyncio.create_task(self._answer(sample, call))
            self._tasks[task] = sample.row.request_id, call
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _answer(self, sample: _Sample, call: Call) -> None:
        """Draw one sample to its end, and hand over its completion or why there is none."""
        row = sample.row
        try:
            await self._draw(sample, call)
        except asyncio.CancelledError:
            row.finish_reason = "abort"
        except MarcError as error:
            call.put([error])
            return
        call.put([row.completion()])

    async def _draw(self, sample: _Sample, call: Call) -> None:
        from vllm.exceptions import VLLMClientError, VLLMServerError
        from vllm.v1.engine.exceptions import EngineDeadError

        row = sample.row
        await self._open.wait()
        task = asyncio.current_task()
        assert task is not None
        self._drawing.add(task)
        row.weights_version = self.weights_version
        name = f"{row.request_id}/{row.index}"
        try:
            stream = self._engine.generate(sample.prompt, sample.params, name)
            async with aclosing(stream) as outputs:
                async for output in outputs:
                    call.put(pushed(row, output.outputs[0], self._end_ids))
                    if row.finish_reason is not None:
                        return
        except VLLMClientError as error:
            raise AnswerError(f"vLLM refuses the request: {error}") from error
        except EngineDeadError as error:
            raise self._fail(error) from error
        except VLLMServerError as error:
            raise EngineError(f"vLLM failed at the request: {error.__cause__ or error}") from error
        finally:
            self._drawing.discard(task)
        raise EngineError("vLLM ended an answer without a reason. Start the engine again.")

    async def _cancel(self, request_id: str) -> None:
        for task, (own, _) in list(self._tasks.items()):
            if own == request_id:
                task.cancel()

    def _forget(self, call: Call) -> None:
        """Free the ids of a call whose reader has left, and end what is still under way."""
        self._calls = {i: other for i, other in self._calls.items() if other is not call}
        for task, (_, own) in list(self._tasks.items()):
            if own is call:
                task.cancel()

    async def _replace(self, directory: Path, version: int) -> None:
        from vllm.exceptions import VLLMError

        async with self._replacing:
            self._open.clear()
            try:
                if self._drawing:
                    await asyncio.wait(self._drawing)
                await self._engine.pause_generation(mode="wait")
                await self._engine.collective_rpc(
                    "reload_weights", kwargs={"weights_path": str(directory)}
                )
                await self._engine.collective_rpc("marc_refresh_head")
                await self._engine.reset_prefix_cache()
                await self._engine.reset_encoder_cache()
                await self._engine.resume_generation()
            except (VLLMError, RuntimeError, ValueError, OSError) as error:
                raise self._fail(error) from error  # which weights it holds is not known
            finally:
                self._open.set()
            self.weights_version = version

    async def _check_health(self) -> None:
        if self._engine.errored:
            raise self._fail(self._engine.dead_error)

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._engine.shutdown()

    def _fail(self, error: BaseException) -> MarcError:
        """Return why the engine answers no more, from now on."""
        if self._failure is None:
            self._failure = failure_of(error)
        return self._failure
