"""`marc evaluate`, and `python -m jobs.evaluate` for `ray job submit`: run a benchmark."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jobs.common import clear_errors, console, print_json, ray_session
from jobs.options import (
    AddressOption,
    ConfigOption,
    DryRunOption,
    JsonOption,
    PresetOption,
    setting,
)
from jobs.progress import progress_bar
from jobs.terminal import counted, say
from marc_core.config import config_to_yaml, load_config

if TYPE_CHECKING:
    from marc_core.evaluation.config import EvaluateConfig

SCORINGS = ("official", "video-r1")


def evaluate(
    settings: Annotated[list[str] | None, setting("questions=100")] = None,
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", "-b", help="world, or one of the paper's six.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", help="Compare two results instead: A.json B.json."),
    ] = None,
    variants: Annotated[
        tuple[str, str] | None,
        typer.Option(help="With --compare: these two variants."),
    ] = None,
    preset: PresetOption = "tiny",
    config: ConfigOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Answer a benchmark under one or several variants and score it, or compare two results.

    Writes result.json, report.html and tables.md. A rerun with the same settings resumes.

    Example: marc evaluate --benchmark world output=runs/world
    """
    from marc_core.evaluation.config import EvaluateConfig

    with clear_errors():
        if compare is not None:
            found = compare_files(*compare, variants=variants)
            print_json(found) if as_json else print_comparison(found)
            return
        named = [] if benchmark is None else [f"benchmark={benchmark}"]
        resolved = load_config(
            EvaluateConfig, preset=preset, files=config or [], overrides=[*named, *(settings or [])]
        )
        if dry_run:
            sys.stdout.write(config_to_yaml(resolved))
            return
        result = run_evaluation(resolved, address=address)
    print_json({k: v for k, v in result.items() if k != "rows"}) if as_json else print_result(
        result, resolved
    )


def run_evaluation(config: EvaluateConfig, *, address: str | None = None) -> dict[str, Any]:
    """Run the evaluation on a cluster or a local Ray; write and return its result.

    Raises MarcError of whatever the user can mend.
    """
    from marc_core.evaluation.report.html import render_report
    from marc_core.evaluation.report.markdown import render_markdown
    from marc_core.evaluation.results.shards import Files
    from pipelines.evaluate import evaluate_benchmark

    with ray_session(address), progress_bar("evaluating", "evaluated") as progress:
        result = evaluate_benchmark(config, progress)
    files = Files(config.output)
    files.write("result.json", (json.dumps(result, indent=1) + "\n").encode())
    files.write("report.html", render_report(result).encode())
    files.write("tables.md", render_markdown(result).encode())
    return result


def compare_files(
    a: str | Path, b: str | Path, *, variants: tuple[str, str] | None = None
) -> dict[str, Any]:
    """Compare two result files (or their folders); see `compare_results`. Raises ResultError."""
    from marc_core.evaluation.results.compare import compare_results
    from marc_core.evaluation.results.result import load_result

    first, second = load_result(a), load_result(b)
    names = {"variant_a": variants[0], "variant_b": variants[1]} if variants else {}
    return compare_results(first, second, scoring=first["manifest"]["scoring"], **names)


def print_result(result: dict[str, Any], config: EvaluateConfig) -> None:
    """Print one line a variant, in both scorings where they differ, and where the rest is."""
    manifest = result["manifest"]
    title = (
        f"{manifest['benchmark']}: {counted(manifest['questions'], 'question')}, "
        f"{counted(manifest['videos'], 'video')}"
    )
    table = Table(title=title, title_justify="left")
    differ = any(variant["scorings_differ"] for variant in result["variants"].values())
    scorings = SCORINGS if differ else (manifest["scoring"],)
    for name in ("variant", *scorings, "tokens", "answered", "top 3 (chance)"):
        variant_name = name == "variant"
        table.add_column(name, justify="left" if variant_name else "right", no_wrap=variant_name)
    for name, variant in result["variants"].items():
        overall = [variant["scores"][v]["overall"] for v in scorings]
        found = variant["retrieval"]
        recall = (
            f"{found['recall_at_3']:.1%} ({found['chance_at_3']:.0%})" if found["named"] else ""
        )
        table.add_row(
            name,
            *(interval_text(o) for o in overall),
            f"{variant['tokens']['visual_tokens'] or 0:.1f}",
            f"{variant['answered']}/{variant['questions']}",
            recall,
        )
    console.print(table)
    say(f"{result['seconds']:.0f} s; {config.output}/report.html, result.json")


def interval_text(overall: dict[str, Any] | None) -> str:
    """Return "71.3 (68.0 - 74.5)" in percent, or a dash without answers."""
    if overall is None:
        return "-"
    mean, low, high = (100 * overall[k] for k in ("mean", "low", "high"))
    return f"{mean:.1f} ({low:.1f} - {high:.1f})"


def print_comparison(found: dict[str, Any]) -> None:
    """Print overall and task differences of every compared variant."""
    for key, (x, y) in found["changed"].items():
        say(f"{key}: {x} -> {y}", "dim")
    for pair in found["variants"]:
        same = pair["a"] == pair["b"]
        table = Table(title=pair["a"] if same else f"{pair['a']} -> {pair['b']}",
                      title_justify="left")  # fmt: skip
        for name in ("task", "n", "first", "second", "difference", "McNemar p"):
            table.add_column(name, justify="left" if name == "task" else "right", no_wrap=True)
        for task, row in (("all", pair["overall"]), *pair["tasks"].items()):
            difference = {"mean": row["difference"], "low": row["low"], "high": row["high"]}
            table.add_row(
                task, str(row["num"]), f"{row['mean_a']:.1%}", f"{row['mean_b']:.1%}",
                interval_text(difference), f"{row['p_mcnemar']:.3g}",
            )  # fmt: skip
        console.print(table)
        console.print(
            f"{counted(len(pair['flips']), 'question')} answered right by only one of the two"
        )


def main() -> None:
    """Run `evaluate` as a program of its own."""
    typer.run(evaluate)


if __name__ == "__main__":
    main()
