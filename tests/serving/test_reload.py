"""New weights for a student that serves: nobody fails, nobody's answer changes half-way."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from jobs.cli import app as marc
from marc_core.config import StudentConfig
from marc_core.errors import ConfigError, EngineError, ModelLoadError
from marc_core.models.engines import load_engine
from marc_core.question import Question, Sampling
from serving.config import ServeConfig, WeightsConfig, method_of
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from serving.weights import BASE, Reloader, Weights, WeightsFile


@pytest.fixture(scope="module")
def config(serve_config: ServeConfig) -> StudentConfig:
    return method_of(serve_config).student


@pytest.fixture(scope="module")
def other(config: StudentConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that answers otherwise: its language model is noise."""
    from marc_core.models.student_files import StudentFiles

    folder = tmp_path_factory.mktemp("other")
    directory = StudentFiles(config).directory
    torch.manual_seed(3)
    for file in directory.glob("*.safetensors"):
        tensors = load_file(file)
        noise = {n: t if "visual." in n else torch.randn_like(t) for n, t in tensors.items()}
        save_file(noise, folder / file.name, metadata={"format": "pt"})
    return folder


def damaged(folder: Path, other: Path, how: str) -> Path:
    """A checkpoint that must be refused."""
    shutil.copytree(other, folder)
    if how == "an adapter":
        (folder / "adapter_config.json").write_text("{}")
    file = next(folder.glob("*.safetensors"))
    if how == "cut off":
        file.write_bytes(file.read_bytes()[:-5000])
    else:
        tensors = load_file(file)
        name = next(n for n in tensors if "layers.0" in n and "visual." not in n)
        if how == "not finite":
            tensors[name].view(-1)[7] = float("nan")
        elif how == "another shape":
            tensors[name] = torch.zeros(3)
        elif how == "a tensor misses":
            del tensors[name]
        save_file(tensors, file, metadata={"format": "pt"})
    return folder


@pytest.fixture
def own_student(config: StudentConfig) -> Iterator[EngineStudent]:
    """A student whose weights may be exchanged; `student` is every test's."""
    engine = load_engine(config)
    yield EngineStudent(engine)
    engine.close()


def reloader(own: EngineStudent, config: StudentConfig, file: Path, **more: Any) -> Reloader:
    settings = WeightsConfig(file=str(file), **{"look_s": 0.02} | more)
    return Reloader(own, settings, config)


def evidence_of(retriever: MemoryRetriever) -> bytes:
    return asyncio.run(retriever.prepare(Question(text="What colour is the circle?"))).evidence


@pytest.mark.slow
def test_answers_under_way_end_on_the_old_weights_and_none_fails(
    own_student: EngineStudent, config: StudentConfig, other: Path, retriever: MemoryRetriever,
    tmp_path: Path,
) -> None:  # fmt: skip
    evidence, file = evidence_of(retriever), tmp_path / "weights.json"
    sampling = Sampling(max_tokens=24, temperature=1.0, seed=5)

    async def run() -> list[tuple[str, int]]:
        watcher, found = reloader(own_student, config, file), []
        await watcher.start()
        running = True

        async def ask() -> None:
            while running:
                texts, last = "", None
                async for pieces in own_student.stream(evidence, sampling):
                    texts += "".join(piece.text for piece in pieces)
                    last = pieces[-1]
                assert last is not None
                found.append((texts, last.weights_version))

        tasks = [asyncio.create_task(ask()) for _ in range(4)]
        await asyncio.sleep(0.5)
        WeightsFile(file, config).want(str(other))
        for _ in range(400):
            await asyncio.sleep(0.05)
            if sum(version == 1 for _, version in found) >= 8:
                break
        running = False
        await asyncio.gather(*tasks)
        return found

    found = asyncio.run(run())
    by_version = {version: {text for text, v in found if v == version} for version in (0, 1)}
    assert len(by_version[0]) == 1  # one seed, one text: none is half old, half new
    assert len(by_version[1]) == 1
    assert by_version[0] != by_version[1]


@pytest.mark.parametrize(
    "how",
    [
        "not finite",
        *(
            pytest.param(how, marks=pytest.mark.slow)
            for how in ("cut off", "another shape", "a tensor misses", "an adapter")
        ),
    ],
)
def test_a_bad_checkpoint_is_refused_by_the_command_and_by_replicas(
    student: EngineStudent, config: StudentConfig, serve_config: ServeConfig, other: Path,
    retriever: MemoryRetriever, tmp_path: Path, how: str,
) -> None:  # fmt: skip
    bad, file = damaged(tmp_path / "bad", other, how), tmp_path / "weights.json"
    command = ["reload", str(bad), "--memory", serve_config.memory, f"weights.file={file}"]
    result = CliRunner().invoke(marc, command)
    assert result.exit_code == 2, result.output
    assert not file.exists()
    WeightsFile(file, config).want(str(bad))

    async def look() -> tuple[dict[str, Any], list[Any]]:
        own = EngineStudent(student.engine)
        await reloader(own, config, file).look()
        return await own.health(), await own.complete(evidence, Sampling(max_tokens=4))

    evidence = evidence_of(retriever)
    health, answer = asyncio.run(look())
    assert health["weights_version"] == 0
    assert "weights 1 are refused" in health["weights_problem"]
    assert answer[0].weights_version == 0


def test_the_command_names_a_checkpoint_and_goes_back(
    config: StudentConfig, serve_config: ServeConfig, other: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.json"

    def reload(*arguments: str) -> Any:
        more = ["--memory", serve_config.memory, f"weights.file={file}", "--json"]
        result = CliRunner().invoke(marc, ["reload", *arguments, *more])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert reload(str(other))["version"] == 1
    assert reload("--base")["version"] == 2
    wanted, before = WeightsFile(file, config).read()
    assert (wanted.version, wanted.path) == (2, "")
    assert (before.version, before.path) == (1, str(other))
    another = WeightsFile(file, StudentConfig(model="another"))
    assert another.read() == (BASE, BASE)
    file.write_text("{")
    with pytest.raises(ConfigError, match="marc reload"):
        another.read()


def test_a_replica_that_starts_takes_what_is_wanted_else_what_was_before(
    config: StudentConfig, other: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.json"
    bad = damaged(tmp_path / "bad", other, "cut off")

    class Fake:
        """Remembers what it was told to load."""

        weights_problem = ""

        def __init__(self) -> None:
            self.loaded: list[str] = []

        async def load(self, weights: Any, **_: Any) -> None:
            self.loaded.append(weights.path)

    async def started() -> list[str]:
        fake: Any = Fake()
        watcher = reloader(fake, config, file)
        await watcher.start()
        assert watcher._task is not None
        watcher._task.cancel()
        return list(fake.loaded)

    assert asyncio.run(started()) == []
    WeightsFile(file, config).want(str(other))
    assert asyncio.run(started()) == [str(other)]
    WeightsFile(file, config).want(str(bad))
    assert asyncio.run(started()) == [str(other)]
    WeightsFile(file, config).want(str(bad))
    with pytest.raises(ModelLoadError, match=r"no weights that fit: .*safetensors"):
        asyncio.run(started())


def test_replicas_take_new_weights_one_after_the_other(
    config: StudentConfig, other: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.json"
    under_way, most = 0, 0

    class Slow:
        """Takes a while to load."""

        weights_problem = ""
        version = 0

        async def load(self, weights: Any, **_: Any) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.05)
            under_way -= 1
            self.version = weights.version

    async def run() -> list[int]:
        several: list[Any] = [Slow() for _ in range(3)]
        watchers = [reloader(one, config, file) for one in several]
        WeightsFile(file, config).want(str(other))
        for _ in range(6):
            await asyncio.gather(*(watcher.look() for watcher in watchers))
        return [one.version for one in several]

    assert asyncio.run(run()) == [1, 1, 1]
    assert most == 1


def test_answers_that_take_too_long_keep_the_old_weights(
    config: StudentConfig, other: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.json"
    WeightsFile(file, config).want(str(other))

    async def run() -> int:
        engine: Any = Loading()
        engine.may_end.set()
        student = EngineStudent(engine)
        watcher = reloader(student, config, file, drain_s=0.05)
        async with student._gate.inside():
            with pytest.raises(TimeoutError):
                await watcher.look()
        async with asyncio.timeout(1):
            async with student._gate.inside():
                pass  # open again
        before = student.weights_version
        await watcher.look()
        assert student.weights_version == 1
        return before

    assert asyncio.run(run()) == 0


class Loading:
    """An engine that says nothing while it loads, and may fail at it."""

    def __init__(self, fails: int = 0) -> None:
        self.fails, self.loaded = fails, list[str]()
        self.may_end = asyncio.Event()

    async def load_weights(self, path: Path, version: int) -> None:
        await self.may_end.wait()
        self.loaded.append(path.name)
        if len(self.loaded) <= self.fails:
            raise ModelLoadError("the disk is gone")

    async def health(self) -> None:
        await self.may_end.wait()


OLD, NEW = Weights(version=1, path="/old"), Weights(version=2, path="/new")


def test_a_student_that_loads_is_healthy() -> None:
    async def run() -> None:
        engine: Any = Loading()
        student = EngineStudent(engine)
        task = asyncio.create_task(student.load(NEW, back_to=OLD, wait_s=1))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(1):
            assert (await student.health())["weights_version"] == 0
        engine.may_end.set()
        await task
        assert (await student.health())["weights_version"] == 2

    asyncio.run(run())


@pytest.mark.parametrize("fails", [1, 2])
def test_a_load_that_fails_half_way_is_undone_or_said(fails: int) -> None:
    async def run() -> None:
        engine: Any = Loading(fails)
        engine.may_end.set()
        student = EngineStudent(engine)
        with pytest.raises(ModelLoadError, match="disk"):
            await student.load(NEW, back_to=OLD, wait_s=1)
        assert engine.loaded == ["new", "old"]
        if fails == 1:
            assert (await student.health())["weights_version"] == 0
        else:
            with pytest.raises(EngineError, match="half exchanged"):
                await student.health()

    asyncio.run(run())
