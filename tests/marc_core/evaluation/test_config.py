"""Rules of the evaluation's configuration, and every shipped YAML."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest

from marc_core.config import config_to_yaml, load_config
from marc_core.errors import ConfigError
from marc_core.evaluation.config import EvaluateConfig, VariantConfig

GAP = Path(__file__).parents[3] / "jobs" / "configs" / "gap.yaml"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["benchmark=mmvu"], "needs data=FILE"),
        (["benchmark=mmmu", "data=a", "videos=b"], "must be one of world, vsi-bench, videommmu"),
        (["only_variants=[x]"], "only_variants must name variants of this run: teacher, marc"),
        (["use_memory=true"], "Got variant 'teacher'"),
        (["variants.marc.baseline=moviechat", "variants.marc.mode=none"], "mode cannot be none"),
        (["variants.marc.baseline=magic"], "variants.marc.baseline"),
        (["variants.marc.frames=0"], "frames must be at least 1"),
        (["variants.marc.budget_tokens=-1"], "budget_tokens must be at least 0"),
        (["variants.marc.model=nobody"], "variants.marc.model"),
        (["variants.a b={}"], "letters, digits, - and _"),
        (["questions=-1"], "questions must be at least 0"),
        (["batch_size=0"], "batch_size must be at least 1"),
        (["nonsense=1"], "nonsense"),
    ],
)
def test_broken_rules_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(EvaluateConfig, overrides=overrides)


def test_variants_can_be_added_changed_and_chosen() -> None:
    config = load_config(
        EvaluateConfig,
        overrides=["variants.marc.budget_tokens=18", "variants.low.baseline=low_resolution",
                   "only_variants=[marc,low]"],
    )  # fmt: skip
    chosen = config.chosen_variants()
    assert list(chosen) == ["marc", "low"]
    assert chosen["marc"].budget_tokens == 18


def test_gap_variants_load_and_cover_the_comparison() -> None:
    config = load_config(EvaluateConfig, preset="tiny", files=[GAP])
    variants = config.chosen_variants().values()
    assert {a.baseline for a in variants} == {
        "none", "uniform_frame", "fewer_frames", "low_resolution", "random_groups", "moviechat",
        "vidcom2",
    }  # fmt: skip
    modes = {(a.events, a.mode) for a in variants if a.baseline == "none"}
    assert {(e, m) for e in ("all", "retrieved", "oracle")
            for m in ("plain", "tokens")} <= modes  # fmt: skip


def test_resolved_configuration_loads_again(tmp_path: Path) -> None:
    config = load_config(EvaluateConfig, preset="tiny", files=[GAP])
    (tmp_path / "all.yaml").write_text(config_to_yaml(config))
    assert load_config(EvaluateConfig, files=[tmp_path / "all.yaml"]) == config


def test_the_docs_name_every_setting_of_a_variant_and_its_values() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in docs.splitlines() if line[:3] == "| `"}
    hints = typing.get_type_hints(VariantConfig)
    for field in dataclasses.fields(VariantConfig):
        values = [v for v in typing.get_args(hints[field.name]) if isinstance(v, str)]
        missing = [v for v in values if f"`{v}`" not in rows[field.name]]
        assert missing in ([], ["none"]), field.name
