"""Rules of the evaluation's configuration, and every shipped YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from marc_core.config import config_to_yaml, load_config
from marc_core.errors import ConfigError
from marc_core.evaluation.config import EvaluateConfig

GAP = Path(__file__).parents[3] / "jobs" / "configs" / "gap.yaml"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["benchmark=mmvu"], "needs data=FILE"),
        (["only_arms=[x]"], "only_arms must name arms of this run: teacher, marc"),
        (["use_memory=true"], "Got arm 'teacher'"),
        (["arms.marc.control=moviechat", "arms.marc.mode=none"], "mode cannot be none"),
        (["arms.marc.control=magic"], "arms.marc.control"),
        (["arms.marc.frames=0"], r"arms.marc.frames must be at least 1. Got 0"),
        (["arms.marc.budget_groups=0"], "arms.marc.budget_groups must be at least 1"),
        (["arms.a b={}"], "letters, digits, - and _"),
        (["questions=-1"], "questions must be at least 0"),
        (["batch_size=0"], "batch_size must be at least 1"),
        (["nonsense=1"], "nonsense"),
    ],
)
def test_broken_rules_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(EvaluateConfig, overrides=overrides)


def test_arms_can_be_added_changed_and_chosen() -> None:
    config = load_config(
        EvaluateConfig,
        overrides=["arms.marc.budget_groups=2", "arms.low.control=low_resolution",
                   "only_arms=[marc,low]"],
    )  # fmt: skip
    chosen = config.chosen_arms()
    assert list(chosen) == ["marc", "low"]
    assert chosen["marc"].budget_groups == 2


def test_gap_arms_load_and_cover_the_comparison() -> None:
    config = load_config(EvaluateConfig, preset="tiny", files=[GAP])
    arms = config.chosen_arms().values()
    assert {a.control for a in arms} == {
        "none", "uniform_frame", "fewer_frames", "low_resolution", "random_groups", "moviechat",
        "vidcom2",
    }  # fmt: skip
    modes = {(a.events, a.mode) for a in arms if a.control == "none"}
    assert {(e, m) for e in ("all", "retrieved", "oracle")
            for m in ("plain", "weighted", "mixed", "none")} == modes  # fmt: skip


def test_resolved_configuration_loads_again(tmp_path: Path) -> None:
    config = load_config(EvaluateConfig, preset="tiny", files=[GAP])
    (tmp_path / "all.yaml").write_text(config_to_yaml(config))
    assert load_config(EvaluateConfig, files=[tmp_path / "all.yaml"]) == config
