"""Rules for every configuration class: bounds, docstrings, shipped files."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import pkgutil
import textwrap
import typing
from pathlib import Path
from typing import Any

import pytest

import jobs
import marc_core
import serving
from jobs.training.cgrpo_config import CGrpoJobConfig
from marc_core.bounds import bounds_of
from marc_core.config import MethodConfig
from marc_core.configure import PRESETS_DIR, load_config
from marc_core.errors import ConfigError
from marc_core.evaluation.config import EvaluateConfig
from marc_core.supervised.config import SupervisedConfig
from marc_core.tiny.config import EncoderTrainConfig, SftConfig
from marc_core.training.config import TrainConfig

CONFIGS_DIR = Path(jobs.__file__).parent / "configs"
SHIPPED = {
    "gap": EvaluateConfig,
    "train_cgrpo": CGrpoJobConfig,
    "train_cgrpo_3b": CGrpoJobConfig,
    "train_encoder": EncoderTrainConfig,
    "train_sft": SftConfig,
    "train_sft_long": SftConfig,
    "train_student": SupervisedConfig,
}
"""jobs/configs by name, and the class of each."""


HOMES = ("marc_core", "jobs", "serving")


def config_classes() -> list[type]:
    """Return every dataclass of marc_core, jobs and serving whose name ends in Config."""
    found = set()
    for package in (marc_core, jobs, serving):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name.endswith("__main__"):
                continue
            for value in vars(importlib.import_module(module.name)).values():
                ours = inspect.isclass(value) and value.__module__.split(".")[0] in HOMES
                if ours and dataclasses.is_dataclass(value) and value.__name__.endswith("Config"):
                    found.add(value)
    return sorted(found, key=lambda cls: cls.__name__)


CLASSES = config_classes()


def numbers_of(cls: type) -> list[dataclasses.Field[Any]]:
    """Return the fields that hold a number, an optional number, or a tuple of numbers."""
    hints = typing.get_type_hints(cls)
    return [f for f in dataclasses.fields(cls) if _numeric(hints[f.name])]


def _numeric(hint: Any) -> bool:
    if hint in (int, float):
        return True
    inside = [a for a in typing.get_args(hint) if a not in (type(None), Ellipsis)]
    if typing.get_origin(hint) is typing.Literal or dict in (hint, typing.get_origin(hint)):
        return False
    return bool(inside) and all(_numeric(a) for a in inside)


def test_the_walk_finds_classes_of_every_room() -> None:
    rooms = {cls.__module__ for cls in CLASSES}
    assert {
        "marc_core.config", "marc_core.evaluation.config", "marc_core.tiny.config",
        "marc_core.training.config", "marc_core.world.config", "serving.config",
    } <= rooms  # fmt: skip
    assert {"steps", "budgets"} <= {f.name for cls in CLASSES for f in numbers_of(cls)}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_number_has_bounds(cls: type) -> None:
    free = [f.name for f in numbers_of(cls) if bounds_of(f) is None]
    assert not free, f"{cls.__name__}: declare {', '.join(free)} with marc_core.bounds.number"


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_is_documented(cls: type) -> None:
    """A setting without a docstring (meaning, unit, source) is a setting nobody can set."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    documented = {
        node.target.id
        for node, after in itertools.pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }
    own = {f.name for f in dataclasses.fields(cls) if f.name in cls.__annotations__}
    assert own - documented == set()
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}(")  # what dataclass writes by itself


@pytest.mark.parametrize(
    ("cls", "override", "message"),
    [
        (SftConfig, "log_every=0", r"log_every must be at least 1\. Got 0"),
        (EncoderTrainConfig, "steps=-5", r"steps must be at least 1\. Got -5"),
        (SftConfig, "clip_norm=-1", r"clip_norm must be above 0\. Got -1"),
        (EvaluateConfig, "video.frame_max_pixels=1", r"video\.frame_max_pixels must be at least"),
        (EvaluateConfig, "student.frame_max_pixels=1", r"student\.frame_max_pixels .* 28 x 28"),
        (EvaluateConfig, "world.scene_lengths_s=[1]", r"scene_lengths_s\.0 must be at least 2"),
    ],
)
def test_nonsense_is_refused_by_name(cls: type, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(cls, overrides=[override])


def test_a_stage_of_the_curriculum_is_named_by_its_place(tmp_path: Path) -> None:
    file = tmp_path / "stages.yaml"
    file.write_text("stages: [{steps: 5}, {steps: -5}]\n")
    with pytest.raises(ConfigError, match=r"stages\.1\.steps must be at least 1\. Got -5"):
        load_config(SftConfig, files=[file])


def test_shipped_configurations_are_all_loaded_below() -> None:
    assert {path.stem for path in CONFIGS_DIR.glob("*.yaml")} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configuration_fits_its_class(name: str) -> None:
    config = load_config(SHIPPED[name], files=[CONFIGS_DIR / f"{name}.yaml"])
    assert config != load_config(SHIPPED[name]), "a file that changes nothing says nothing"


@pytest.mark.parametrize("preset", sorted(p.parent.name for p in PRESETS_DIR.glob("*/*.yaml")))
@pytest.mark.parametrize("cls", [c for c in CLASSES if issubclass(c, MethodConfig)])
def test_every_preset_fits_every_class_that_takes_one(preset: str, cls: type) -> None:
    assert isinstance(load_config(cls, preset=preset), cls)


def test_trainings_share_their_base() -> None:
    assert issubclass(SftConfig, TrainConfig)
    assert issubclass(EncoderTrainConfig, TrainConfig)
