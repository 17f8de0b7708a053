"""Configuration: defaults, presets, overrides, and errors that name the rule and the value."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from marc_core.config import (
    AnswerConfig,
    EventConfig,
    IndexConfig,
    config_to_yaml,
    fingerprint,
    load_config,
)
from marc_core.errors import ConfigError


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("events: {max_event_s: 30}\nretrieve: {k: 5}\n")
    config = load_config(IndexConfig, files=[file], overrides=["retrieve.k=7"])
    assert (config.events.max_event_s, config.retrieve.k) == (30.0, 7)


def test_questions_take_the_file_of_the_index(tmp_path: Path) -> None:
    file = tmp_path / "index.yaml"
    file.write_text("archive: [videos]\nwrite_videos: 2\nmemory: {uri: m}\n")
    assert load_config(AnswerConfig, files=[file]).memory.uri == "m"
    file.write_text("archives: [videos]\n")
    with pytest.raises(ConfigError, match="archives"):
        load_config(AnswerConfig, files=[file])


def test_switches_are_words_however_yaml_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("text: {speech: off, writing: 'on'}\n")
    config = load_config(IndexConfig, files=[file], overrides=["text.captions=on"])
    assert (config.text.speech, config.text.writing, config.text.captions) == ("off", "on", "on")
    again = load_config(IndexConfig, stored=config_to_yaml(config))
    assert again.text == config.text
    with pytest.raises(ConfigError, match=r"text\.speech"):
        load_config(IndexConfig, overrides=["text.speech=perhaps"])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: b: c\n", "\x00"])
def test_a_file_that_is_no_configuration_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.yaml"):
        load_config(IndexConfig, files=[file])


def test_yaml_round_trip() -> None:
    config = load_config(IndexConfig, overrides=["archive=[a, 'b c']", "memory.uri=x"])
    stored = load_config(AnswerConfig, stored=config_to_yaml(config))
    assert stored.memory.uri == "x"
    assert not hasattr(stored, "archive")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("video.sample_fps=0", ["video.sample_fps", "above 0", "0"]),
        ("compress.event_ratio=1.5", ["compress.event_ratio", "at most 1", "1.5"]),
        ("events.min_event_s=-1", ["events.min_event_s", "at least 0"]),
        ("events.max_event_s=1.5", ["max_event_s", "twice"]),
        ("video.backend=opencv", ["video.backend", "opencv", "pyav"]),
        ("retrieve.k=many", ["retrieve.k", "many"]),
        ("nonsense.key=1", ["nonsense"]),
        ("justaword", ["key=value", "justaword"]),
    ],
)
def test_errors_name_rule_and_value(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(IndexConfig, overrides=[override])
    for word in words:
        assert word in str(caught.value)


def test_missing_file_and_preset_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(IndexConfig, files=[tmp_path / "nowhere.yaml"])
    with pytest.raises(ConfigError, match="tiny"):
        load_config(IndexConfig, preset="huge")


def test_fingerprint_follows_every_field() -> None:
    base = EventConfig()
    assert fingerprint(base) == fingerprint(EventConfig())
    for f in dataclasses.fields(EventConfig):
        value = getattr(base, f.name)
        other = "fp32" if isinstance(value, str) else (not value if value is True else value + 7)
        assert fingerprint(dataclasses.replace(base, **{f.name: other})) != fingerprint(base)
