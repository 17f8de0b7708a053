"""What serving costs under load, on loopback, with locust as the load (benchmarks/serve_users.py).

    python -m benchmarks.serve_load [--parts saturated clients overload tiny] [--seconds 20]
        [--overload-seconds 60] [--memory FOLDER] [--into FILE]

saturated, clients, overload: an engine of known cost (benchmarks/timed_engine.py) behind the real
gateway and retriever. tiny: the tiny preset's own engine, held against an application of the same
hops that does nothing and against the Answerer in one process. CPU seconds are those of Ray's
processes, what they take when idle taken off; the generator's are not among them. --into: a JSON
file whose parts are replaced. 600 for --overload-seconds is the full measure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from benchmarks.clips import hardware
from benchmarks.processes import Sampled, TreeCpu, descendants, private_mib
from benchmarks.questions import question
from benchmarks.serve_empty import empty_application
from benchmarks.timed_engine import BATCH, FIRST_S, TOKEN_S, TOKENS, TimedEngine, direct_rate
from jobs.common import ray_session
from marc_core.config import IndexConfig, load_config
from marc_core.world import WorldConfig, sample_video, write_mp4
from serving.config import ServeConfig, method_of

HOST, PORT = "127.0.0.1", 8123
FULL_RATE = BATCH / (FIRST_S + TOKENS * TOKEN_S)
"""Answers a second of an engine whose batches are always full."""
SATURATING = 3 * BATCH
WARM_S = 3.0
"""Of every load, not counted."""


def main() -> None:
    parser = options(__doc__, list(PARTS), seconds=20)
    parser.add_argument("--overload-seconds", type=float, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ray_session():
        memory = args.memory or make_memory(Path(scratch))
        found = {"hardware": hardware(), "engine": {"full_batches_per_s": round(FULL_RATE, 2)}}
        for part in args.parts:
            found[part] = PARTS[part](ServeConfig(memory=memory, port=PORT), args)
            keep(args.into, found)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def options(doc: str, parts: list[str], *, seconds: float) -> argparse.ArgumentParser:
    """Return the options that every benchmark of serving has."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--memory")
    parser.add_argument("--into", type=Path)
    return parser


def keep(path: Path | None, found: dict[str, Any]) -> None:
    """Replace the parts of a file that were measured; the others stay."""
    if path is not None:
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | found, indent=2) + "\n")


def make_memory(folder: Path, videos: int = 3) -> str:
    """Index small videos of the world; return the memory's folder."""
    from pipelines.index import index_archive

    (folder / "archive").mkdir()
    world = WorldConfig(min_scenes=5, max_scenes=5, scene_lengths_s=(2.2, 2.6), cut_weight=1.0)
    for i in range(videos):
        write_mp4(sample_video(60_000 + i, world), folder / "archive" / f"{i}.mp4")
    memory = str(folder / "memory")
    overrides = [f"archive=['{folder}/archive']", f"memory.uri='{memory}'"]
    index_archive(load_config(IndexConfig, preset="tiny", overrides=overrides))
    return memory


# The parts


def saturated(config: ServeConfig, args: argparse.Namespace) -> dict[str, Any]:
    """The engine called directly, through serving, and through serving as a stream."""
    evidence, _ = answered_directly(config, 1)
    direct = asyncio.run(direct_rate(evidence, SATURATING, args.seconds))
    with served(config, timed=True):
        idle = idle_cpu_s()
        whole = load(args.seconds, SATURATING, stream=False, idle=idle)
        streamed = load(args.seconds, SATURATING, stream=True, idle=idle)
    rate = direct["answers_per_s"]
    return {
        "direct": rounded(direct),
        "whole": whole | {"of_direct": round(whole["answers_per_s"] / rate, 3)},
        "streamed": streamed | {"of_direct": round(streamed["answers_per_s"] / rate, 3)},
    }


def clients(config: ServeConfig, args: argparse.Namespace) -> dict[str, Any]:
    """Latencies of streamed answers, for so many users who each ask again at once."""
    with served(config, timed=True):
        idle = idle_cpu_s()
        return {
            str(users): load(args.seconds, users, stream=True, idle=idle)
            for users in (1, 8, 32, 128)
        }


def overload(config: ServeConfig, args: argparse.Namespace) -> dict[str, Any]:
    """Four times what the engine can answer, for a while, and how it is afterwards."""
    per_s = 4 * FULL_RATE
    with served(config, timed=True):
        idle = idle_cpu_s()
        before = load(10, 1, stream=False, idle=idle)
        with Memory() as memory:
            during = load(
                args.overload_seconds, 320, stream=False, idle=idle, per_s=per_s, heed=False
            )
        ended = time.monotonic()
        after = load(15, 1, stream=False, idle=idle, warm_s=0, since=ended)
    return {
        "asked_per_s": round(per_s, 1),
        "before": before,
        "during": during,
        "server_mib": memory.summary(),
        "after": after,
    }


def tiny(config: ServeConfig, args: argparse.Namespace) -> dict[str, Any]:
    """One user, the tiny engine: MARC's server, an empty application, the Answerer in process.

    The empty application is asked again at once, and as often a second as MARC's server answered:
    hops that follow one another without a pause find everything in the processor's caches.
    """
    _, answerer = answered_directly(config, 60)
    with served(config):
        idle = idle_cpu_s()
        marc = load(args.seconds, 1, stream=False, idle=idle)
        streamed = load(args.seconds, 1, stream=True, idle=idle)
    with served(config, application=empty_application()):
        idle = idle_cpu_s()
        at_once = load(args.seconds, 1, stream=False, idle=idle)
        rate = marc["answers_per_s"]
        as_often = load(args.seconds, 1, stream=False, idle=idle, per_s=rate)
    found = {"marc": marc, "marc_streamed": streamed, "answerer_in_process": answerer}
    for name, empty in {"empty_at_once": at_once, "empty_as_often": as_often}.items():
        cpu_ms = marc["cpu_ms_per_answer"] - answerer["cpu_ms"]
        above_ms = marc["p50_ms"] - empty["p50_ms"] - answerer["p50_ms"]
        found[name] = empty | {
            "cpu_of_marc_without_answerer": round(cpu_ms / empty["cpu_ms_per_answer"], 2),
            "p50_of_marc_above_both_ms": round(above_ms, 1),
        }
    return found


PARTS: dict[str, Callable[[ServeConfig, argparse.Namespace], dict[str, Any]]] = {
    "saturated": saturated, "clients": clients, "overload": overload, "tiny": tiny,
}  # fmt: skip


# What they are made of


@contextmanager
def served(config: ServeConfig, *, timed: bool = False, application: Any = None) -> Iterator[None]:
    """Serve MARC, with the engine of known cost or its own, or another application."""
    from ray import serve

    from serving.app import application as marc

    serve.start(
        proxy_location="HeadOnly", http_options={"host": HOST, "port": PORT},
        logging_config={"log_level": "WARNING"},
    )  # fmt: skip
    try:
        made = application or marc(config, (lambda _: TimedEngine()) if timed else None)
        serve.run(made, name="marc", route_prefix="/")
        warm(config)
        yield
    finally:
        serve.shutdown()


def warm(config: ServeConfig, times: int = 5) -> None:
    """Ask a few questions, so that nothing is loaded while it is measured."""
    with httpx2.Client(base_url=f"http://{HOST}:{PORT}", timeout=120) as http:
        for number in range(times):
            messages = [{"role": "user", "content": question(number)}]
            body = {"model": config.model, "messages": messages}
            http.post("/v1/chat/completions", json=body).raise_for_status()


def load(
    seconds: float, users: int, *, stream: bool, idle: float, per_s: float | None = None,
    heed: bool = True, warm_s: float = WARM_S, since: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Let locust's users ask for a while; return what they saw and what it cost."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        says = {
            "stream": stream, "out": str(out), "per_s": per_s, "heed": heed, "users": users,
        }  # fmt: skip
        command = [
            sys.executable, "-m", "locust", "-f", str(Path(__file__).parent / "serve_users.py"),
            "--headless", "-u", str(users), "-r", str(max(users, 1)), "-t",
            f"{int(seconds + warm_s)}s", "--host", f"http://{HOST}:{PORT}", "--only-summary",
            "--loglevel", "ERROR", "--stop-timeout", "20",
        ]  # fmt: skip
        with ServerCpu() as cpu:
            subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=os.environ | {"MARC_LOAD": json.dumps(says)},
            )  # fmt: skip
        rows = json.loads(out.read_text())
    cpu_s = cpu.server_s - idle * cpu.wall_s
    return summary(rows, users, stream, cpu_s, cpu.by_part(), warm_s, since)


def summary(
    rows: list[list[float]], users: int, stream: bool, cpu_s: float, parts_s: dict[str, float],
    warm_s: float, since: float | None,
) -> dict[str, Any]:  # fmt: skip
    """Latencies in ms of what was answered after the first seconds; counts of everything."""
    statuses = [int(row[3]) for row in rows]
    answered = sum(status == 200 for status in statuses)
    first = min(row[0] for row in rows)
    counted = [row for row in rows if row[3] == 200 and row[0] >= first + warm_s]
    until = max(row[0] for row in rows)  # afterwards users only wait for their last answers
    ends = [row[0] + row[2] for row in rows if row[3] == 200]
    done = [end for end in ends if first + warm_s <= end <= until]
    span_s = max(0.001, until - first - warm_s)
    found = {
        "users": users,
        "statuses": {str(s): statuses.count(s) for s in sorted(set(statuses))},
        "answers_per_s": round(len(done) / span_s, 2),
        **percentiles("", [row[2] for row in counted]),
        "cpu_ms_per_answer": round(1000 * cpu_s / max(1, answered), 2),
        "of_these_ms": {k: round(1000 * s / max(1, answered), 1) for k, s in parts_s.items()},
    }
    if stream:
        chunks = sum(row[5] for row in rows)
        found |= percentiles("first_token_", [row[1] for row in counted])
        found["chunks_per_answer"] = round(chunks / max(1, answered), 1)
        found["cpu_ms_per_chunk"] = round(1000 * cpu_s / max(1, chunks), 2)
    refused = [row for row in rows if row[3] == 503]
    if refused:
        found |= percentiles("refused_", [row[2] for row in refused])
        found["refused_without_retry_after"] = sum(not row[4] for row in refused)
    if since is not None:
        found["by_second_after"] = [
            [round(row[0] - since, 1), int(row[3]), round(1000 * row[2])] for row in rows[:15]
        ]
    return found


def percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {
        f"{name}p{p}_ms": round(1000 * float(np.percentile(seconds, p)), 1) for p in (50, 95, 99)
    }


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


class ServerCpu(TreeCpu):
    """CPU seconds of the processes below this one, the generator's left out."""

    def __enter__(self) -> ServerCpu:
        self._began = time.monotonic()
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.wall_s = time.monotonic() - self._began
        self.server_s = sum(
            s - self._first.get(pid, 0.0) for pid, s in self._last.items() if pid in self._servers
        )

    def look(self) -> None:
        """Note what every process has spent so far, and which of them serve."""
        super().look()
        self._servers = getattr(self, "_servers", {}) | servers_now()

    def by_part(self) -> dict[str, float]:
        """Return the seconds by kind of process, idle ones included."""
        found: dict[str, float] = {}
        for pid, line in self._servers.items():
            spent = self._last.get(pid, 0.0) - self._first.get(pid, 0.0)
            named = re.match(r"ray::(?:ServeReplica:\w+:)?(\w+)|\S*?(\w+)(?: |$)", line)
            kind = (named[1] or named[2]) if named else "other"
            found[kind] = found.get(kind, 0.0) + spent
        return {k: s for k, s in sorted(found.items(), key=lambda item: -item[1]) if s > 0.02}


def servers_now() -> dict[int, str]:
    """Return the processes below this one but the generator, with their command lines."""
    found = descendants()
    return {p: line for p, line in found.items() if p != os.getpid() and "locust" not in line}


def idle_cpu_s(seconds: float = 6.0) -> float:
    """Return the CPU seconds that the idle server takes a second, once it has settled."""
    time.sleep(3)
    with ServerCpu() as cpu:
        time.sleep(seconds)
    return cpu.server_s / cpu.wall_s


class Memory(Sampled):
    """Private memory of the server's processes, MiB, every two seconds."""

    interval_s = 2.0

    def __enter__(self) -> Memory:
        self.samples: list[float] = []
        super().__enter__()
        return self

    def look(self) -> None:
        """Take one sample."""
        self.samples.append(sum(private_mib(pid) for pid in servers_now()))

    def summary(self) -> dict[str, Any]:
        """Medians of the fifths of the time, and the largest."""
        fifths = np.array_split(np.array(self.samples), 5)
        medians = [round(float(np.median(part)), 1) for part in fifths if len(part)]
        return {"by_fifth": medians, "most": round(max(self.samples), 1)}


def answered_directly(config: ServeConfig, questions: int) -> tuple[bytes, dict[str, float]]:
    """Return a question's evidence, and what the Answerer takes in this process, with one thread of
    computation as in its replicas."""
    import torch

    from marc_core.question import Question
    from serving.retriever import MemoryRetriever
    from serving.student import EngineStudent

    torch.set_num_threads(1)
    retriever = MemoryRetriever.open(config, method_of(config))
    student = EngineStudent(retriever.session.engine)

    async def ask(number: int) -> bytes:
        asked = Question(text=question(number))
        prepared = await retriever.prepare(asked)
        await student.complete(prepared.evidence, asked.sampling)
        return prepared.evidence

    async def run() -> tuple[bytes, list[float], float]:
        evidence = await ask(0)
        for i in range(4):
            await ask(i)
        walls, cpu = [], time.process_time()
        for i in range(questions):
            started = time.perf_counter()
            await ask(i)
            walls.append(time.perf_counter() - started)
        return evidence, walls, time.process_time() - cpu

    evidence, walls, cpu_s = asyncio.run(run())
    retriever.close()
    return evidence, {
        "p50_ms": round(1000 * float(np.median(walls)), 1),
        "cpu_ms": round(1000 * cpu_s / questions, 1),
        "evidence_bytes": len(evidence),
    }


if __name__ == "__main__":
    main()
