"""`marc push`: a trained student to a folder, or to a repository of the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from jobs.common import clear_errors, print_json
from jobs.options import JsonOption
from jobs.terminal import say
from marc_core.errors import ConfigError

HUB = "hf://"
_NEEDED = ("config.json", "tokenizer.json")


def push(
    directory: Annotated[Path, typer.Argument(help="Student written by `marc train`.")],
    target: Annotated[
        str, typer.Argument(help="A new folder, or hf://OWNER/NAME for a repository of the hub.")
    ],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; private otherwise.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a trained student with its model card to a folder, or upload it to the hub.

    The hub is used only where the target says so; it takes the token of `hf auth login`.

    Example: marc push runs/cgrpo/student hf://someone/marc-student
    """
    with clear_errors():
        check_student(directory)
        if target.startswith(HUB):
            place = _upload(directory, target.removeprefix(HUB), public=public)
        else:
            place = _copy(directory, target)
        if as_json:
            print_json({"student": place})
        else:
            say(f"The student is at {place}")


def _copy(directory: Path, target: str) -> str:
    if "://" in target:
        raise ConfigError(f"The target is a folder or hf://OWNER/NAME. Got '{target}'.")
    folder = Path(target)
    if folder.exists():
        raise ConfigError(
            f"The target must be a new folder. Got '{folder}', which exists: remove it, or "
            "name another one."
        )
    shutil.copytree(directory, folder)
    return str(folder)


def check_student(directory: Path) -> None:
    """Raise ConfigError for a folder that holds no student."""
    missing = [name for name in _NEEDED if not (directory / name).is_file()]
    if not any(directory.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise ConfigError(
            f"'{directory}' must be a student's folder, such as runs/cgrpo/student. It has no "
            f"{', '.join(missing)}."
        )


def _upload(directory: Path, repository: str, *, public: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if repository.count("/") != 1:
        raise ConfigError(f"A repository of the hub is hf://OWNER/NAME. Got 'hf://{repository}'.")
    hub = HfApi()
    try:
        hub.create_repo(repository, private=not public, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=directory)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"The hub did not take '{repository}': {first}. Log in with `hf auth login`, and use a "
            "repository that you may write to."
        ) from error
    return f"https://huggingface.co/{repository}"
