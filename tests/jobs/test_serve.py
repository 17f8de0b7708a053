"""`marc serve` as a person meets it: what it prints, and a quiet end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest
from ray.exceptions import RayActorError
from typer.testing import CliRunner

from jobs.cli import app
from jobs.serve import (
    check_nobody_serves,
    check_port,
    check_same_place,
    greeting,
    until_answered,
    with_places,
)
from marc_core.errors import ClusterError, ConfigError
from serving.config import MediaConfig, ServeConfig, UploadConfig, WeightsConfig, method_of
from serving.weights import WeightsFile
from tests.conftest import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_says_where_it_is_and_what_it_serves(small_memory: Path, tmp_path: Path) -> None:
    config = ServeConfig(
        memory=str(small_memory / "runs" / "memory"), host="::1", port=8001,
        uploads=UploadConfig(folder="up"), weights=WeightsConfig(file=str(tmp_path / "w.json")),
    )  # fmt: skip
    method = method_of(config)
    said = "\n".join(greeting(config, method))
    assert "3 videos, " in said
    assert "student preset:tiny\n" in said
    for place in ("http://[::1]:8001/\n", "http://[::1]:8001/v1 ", "http://[::1]:8001/mcp\n"):
        assert place in said
    assert "no keys: this machine only" in said
    assert said.endswith("Ctrl-C ends it.")
    WeightsFile(config.weights.file, method.student).want("/checkpoints/7")
    assert "weights /checkpoints/7" in "\n".join(greeting(config, method))


def test_every_place_is_named_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replicas of a Ray that somebody else has started work in other directories."""
    monkeypatch.chdir(tmp_path)
    config = with_places(
        ServeConfig(
            memory="runs/memory", keys="keys.json", files=("a.yaml",),
            uploads=UploadConfig(roots=("in", "s3://bucket/in")),
            media=MediaConfig(cache_folder="cache"),
        )
    )  # fmt: skip
    found = [
        config.memory, config.keys, *config.files, config.uploads.folder, config.uploads.roots[0],
        config.media.cache_folder, config.weights.file,
    ]  # fmt: skip
    assert all(path.startswith(f"{tmp_path}/") for path in found), found
    assert config.uploads.roots[1] == "s3://bucket/in"
    plain = with_places(ServeConfig(memory="s3://bucket/memory"))
    assert (plain.memory, plain.keys, plain.media.cache_folder) == ("s3://bucket/memory", "", "")


def test_a_port_that_is_taken_is_said_before_anything_starts(small_memory: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match="--port"):
            check_port("127.0.0.1", port)
        memory = str(small_memory / "runs" / "memory")
        command = ["serve", "--memory", memory, "--port", str(port), "--address", "local"]
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    check_port("127.0.0.1", free_port())


def test_a_serve_that_listens_elsewhere_is_named_with_what_to_do() -> None:
    with pytest.raises(ClusterError, match=r"127.0.0.1:8000;.*127.0.0.1:8003 would") as caught:
        check_same_place("127.0.0.1", 8000, "127.0.0.1", 8003)
    assert "--address local" in str(caught.value)
    assert "--port 8000" in str(caught.value)
    check_same_place("::1", 8000, "::1", 8000)


def test_a_server_that_runs_on_the_joined_ray_is_not_replaced() -> None:
    with pytest.raises(ClusterError, match=r"serves already at 127\.0\.0\.1:8000") as caught:
        check_nobody_serves(["other", "marc"], "127.0.0.1", 8000)
    assert "serve shutdown" in str(caught.value)
    check_nobody_serves(["other"], "127.0.0.1", 8000)


def test_it_ends_when_nothing_is_under_way_or_the_time_is_over() -> None:
    class Gateway:
        def __init__(self, *counts: int) -> None:
            self.counts = list(counts)
            self.under_way = self

        def remote(self) -> Gateway:
            return self

        def result(self, timeout_s: float) -> int:
            if not self.counts:
                raise RayActorError
            return self.counts.pop(0)

    answering = Gateway(2, 1, 0, 5)
    until_answered(answering, 60)
    assert answering.counts == [5]
    until_answered(Gateway(1), 60)  # it has died
    busy = Gateway(*[1] * 99)
    until_answered(busy, 0.15)
    assert len(busy.counts) >= 97


def read_stream(port: int, lines: list[str], begun: threading.Event) -> None:
    """Read the answer to a question of many samples, line by line."""
    messages = [{"role": "user", "content": "What colour is it?"}]
    more = {"n": 16, "temperature": 1.0, "seed": 1, "stream": True}
    body = {"model": "marc", "messages": messages} | more
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    with httpx2.stream("POST", url, json=body, timeout=60) as response:
        for line in response.iter_lines():
            if line:
                lines.append(line)
                begun.set()


@pytest.mark.slow
def test_it_starts_and_ends_without_noise(small_memory: Path, tmp_path: Path) -> None:
    shutil.copytree(small_memory / "runs" / "memory", tmp_path / "memory")
    port = free_port()
    command = [
        sys.executable, "-m", "jobs.cli", "serve", "--memory", "memory", "--port", str(port),
        "--address", "local",
    ]  # fmt: skip
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with (
        open(tmp_path / "out", "w") as out,
        open(tmp_path / "err", "w") as err,
        subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=out, stderr=err, start_new_session=True
        ) as server,
    ):
        try:
            deadline = time.monotonic() + 150
            while "Ctrl-C ends it." not in (tmp_path / "err").read_text():
                assert time.monotonic() < deadline
                assert server.poll() is None
                time.sleep(0.2)
            assert httpx2.get(f"http://127.0.0.1:{port}/ready", timeout=60).status_code == 200
            lines, begun = [], threading.Event()
            reader = threading.Thread(target=read_stream, args=(port, lines, begun))
            reader.start()
            assert begun.wait(60)
            os.killpg(server.pid, signal.SIGINT)  # as a terminal does
            reader.join(60)
            assert lines[-1] == "data: [DONE]"
            assert server.wait(timeout=90) == 0
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
    assert (tmp_path / "out").read_text() == ""
    lines = (tmp_path / "err").read_text().splitlines()
    assert [line.split(":")[0].split()[0] for line in lines] == [
        "starting", "starting", "serving", "page", "API", "agents", "uploads", "Ctrl-C", "ending"
    ]  # fmt: skip
