"""The one loader of configurations: defaults, preset, YAML files and `key=value`, checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from marc_core.bounds import check_bounds
from marc_core.errors import ConfigError

PRESETS_DIR = Path(__file__).parent / "presets"

C = TypeVar("C")


def load_config(
    cls: type[C],
    *,
    preset: str | None = None,
    stored: str | None = None,
    files: Sequence[str | Path] = (),
    given: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> C:
    """Return a checked `cls`: defaults, preset, `stored`, YAML files, plain values `given`,
    `key=value`, in this order.

    `stored` is the YAML of an earlier run (`config_to_yaml`), of which only the sections (fields
    that are dataclasses or mappings) that `cls` knows are taken. What `cls.ignored_in_files`
    names may stand in `files` and is left out.

    Raises ConfigError for unknown keys, wrong types, values out of range and missing files; the
    message names the rule, the value received and the remedy.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    known: Any = OmegaConf.structured(cls)
    layers: list[Any] = [known]
    try:
        if preset is not None:
            layers.append(OmegaConf.load(_preset_file(preset)))
        if stored is not None:
            earlier: Any = OmegaConf.create(stored)
            layers.append({key: earlier[key] for key in _sections(cls) if key in earlier})
        for file in files:
            layers.append(_read_file(file, without=getattr(cls, "ignored_in_files", frozenset())))
        if given is not None:
            layers.append(OmegaConf.create(dict(given)))
        layers.append(OmegaConf.from_dotlist(_dotlist(overrides)))
        for layer in layers[1:]:
            _name_switches(layer, known)
        config = OmegaConf.to_object(OmegaConf.merge(*layers))
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(_said(error)) from error
    assert isinstance(config, cls)
    check_bounds(config)
    return config


def _name_switches(layer: Any, known: Any) -> None:
    """Write on and off, which YAML reads as true and false, as words where words are wanted."""
    for key, value in list(layer.items()):
        wanted = known.get(key) if key in known else None
        if isinstance(value, bool) and wanted in ("auto", "on", "off"):
            layer[key] = "on" if value else "off"
        elif hasattr(value, "items") and hasattr(wanted, "items"):
            _name_switches(value, wanted)


def _said(error: Exception) -> str:
    """Return an error of the loader in one line; of an unknown key, with the known ones."""
    key, owner = getattr(error, "full_key", None), getattr(error, "object_type", None)
    where = f" at '{key}'" if key else ""
    first = str(error).splitlines()[0]
    said = f"Configuration error{where}: {first}{'' if first.endswith(('.', '?')) else '.'}"
    if isinstance(error, KeyError | AttributeError) and dataclasses.is_dataclass(owner):
        said += f" Keys there: {', '.join(f.name for f in dataclasses.fields(owner))}."
    return said


def _read_file(file: str | Path, *, without: Collection[str]) -> Any:
    from omegaconf import DictConfig, OmegaConf
    from yaml import YAMLError

    try:
        layer = OmegaConf.load(file)
    except FileNotFoundError:
        raise ConfigError(f"Configuration file '{file}' does not exist.") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"Configuration file '{file}' cannot be read: {reason}") from error
    if not isinstance(layer, DictConfig):
        raise ConfigError(f"Configuration file '{file}' must hold `key: value` lines.")
    for key in without:
        layer.pop(key, None)
    return layer


def _sections(cls: type[Any]) -> list[str]:
    """Return the fields whose defaults are dataclasses or mappings."""
    default = cls()
    values = {f.name: getattr(default, f.name) for f in dataclasses.fields(cls)}
    return [n for n, v in values.items() if dataclasses.is_dataclass(v) or isinstance(v, dict)]


def _preset_file(preset: str) -> Path:
    path = PRESETS_DIR / preset / "preset.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in PRESETS_DIR.glob("*/preset.yaml")))
        raise ConfigError(f"Preset must be one of: {known}. Got '{preset}'.")
    return path


def _dotlist(overrides: Sequence[str]) -> list[str]:
    for item in overrides:
        if "=" not in item:
            raise ConfigError(f"Overrides are written key=value. Got '{item}'.")
    return list(overrides)


def config_to_yaml(config: Any) -> str:
    """Return the resolved configuration as YAML, loadable by `load_config`."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.structured(config)))


def fingerprint(*parts: Any) -> str:
    """Return 12 hex digits that change when any of the dataclasses or values changes."""
    plain = [dataclasses.asdict(p) if dataclasses.is_dataclass(p) else p for p in parts]  # type: ignore[arg-type]
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def quoted(value: str) -> str:
    """Return `value` as a double-quoted YAML scalar of which no character is syntax, for
    `key=value` overrides."""
    return json.dumps(value, ensure_ascii=False).replace("${", "\\\\${")
