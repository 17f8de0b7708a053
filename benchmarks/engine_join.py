"""Questions that come one after another: do they join rows under way, wait, or go one by one?

    python -m benchmarks.engine_join [--requests 16] [--repeats 2]

The tiny student's engine answers prompts of 9 - 81 visual tokens (random ones) with 4 - 60 tokens
each; a new one comes every 10 ms. Three settings in turn, in one process, repeated: join, wait
(`join=False`: what comes later waits for the batch to end) and single (`max_rows=1`). Reports the
median over repeats of tokens a second and of the mean time from a request to its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time

import torch

from benchmarks.clips import hardware
from marc_core.compress import CompressedVideo
from marc_core.config import StudentConfig
from marc_core.models.engine import Completion, GenerationRequest
from marc_core.models.transformers_engine import TransformersEngine
from marc_core.question import Sampling

SETTINGS = {"join": {}, "wait": {"join": False}, "single": {"max_rows": 1}}
INTERVAL_S = 0.01


def make_requests(engine: TransformersEngine, count: int) -> list[GenerationRequest]:
    """Return the same ragged requests for every setting."""
    rng, requests = random.Random(0), []
    width = engine.files.model_config.get_text_config().hidden_size
    for i in range(count):
        groups = rng.choice((1, 1, 2, 3, 9))
        generator = torch.Generator().manual_seed(i)
        video = CompressedVideo(
            groups_KPD=torch.randn(groups, 9, width, generator=generator),
            grid_hw=(3, 3),
            times_K=torch.arange(groups) * 2.0,
            num_source_groups=groups,
        )
        sampling = Sampling(temperature=1.0, seed=i, max_tokens=rng.randint(4, 60))
        evidence = engine.files.evidence("What happens in the video?", video)
        requests.append(GenerationRequest(id=str(i), evidence=evidence, sampling=sampling))
    return requests


async def ask_all(
    engine: TransformersEngine, requests: list[GenerationRequest]
) -> tuple[float, float, list[tuple[int, ...]]]:
    """Return (tokens a second, mean seconds a request, answers)."""

    async def ask(request: GenerationRequest, after_s: float) -> tuple[float, tuple[int, ...]]:
        await asyncio.sleep(after_s)
        started = time.perf_counter()
        async for item in engine.generate([request]):
            if isinstance(item, Completion):
                return time.perf_counter() - started, item.token_ids
        raise AssertionError("a request ends with a completion")

    started = time.perf_counter()
    done = await asyncio.gather(*(ask(r, i * INTERVAL_S) for i, r in enumerate(requests)))
    wall_s = time.perf_counter() - started
    tokens = sum(len(ids) for _, ids in done)
    return tokens / wall_s, statistics.mean(s for s, _ in done), [ids for _, ids in done]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    answers = []
    for _ in range(options.repeats):
        for name, setting in SETTINGS.items():
            with TransformersEngine(StudentConfig(), **setting) as engine:  # type: ignore[arg-type]
                engine._decoder.end_ids = ()  # every answer has its given length
                speed, wait_s, ids = asyncio.run(
                    ask_all(engine, make_requests(engine, options.requests))
                )
            measured[name].append((speed, wait_s))
            answers.append(ids)
    median = {
        name: {
            "tokens_per_s": round(statistics.median(s for s, _ in runs), 1),
            "mean_answer_s": round(statistics.median(w for _, w in runs), 3),
        }
        for name, runs in measured.items()
    }
    result = {
        "hardware": hardware(),
        "requests": options.requests,
        "repeats": options.repeats,
        **median,
        "join_over_wait": _ratio(median, "wait"),
        "join_over_single": _ratio(median, "single"),
        "equal_answers": sum(a == answers[0] for a in answers) / len(answers),
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def _ratio(median: dict[str, dict[str, float]], other: str) -> dict[str, float]:
    return {
        "throughput": round(median["join"]["tokens_per_s"] / median[other]["tokens_per_s"], 2),
        "answer_time": round(median["join"]["mean_answer_s"] / median[other]["mean_answer_s"], 2),
    }


if __name__ == "__main__":
    main()
