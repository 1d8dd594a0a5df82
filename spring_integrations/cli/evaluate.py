"""`spring-rag evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from spring_integrations.cli.app import Encoding, app, hide_loading_bars, out, shown
from spring_integrations.cli.engines import Address, Engine, Gpus, Workers, cluster_of
from spring_integrations.cli.old_names import MINILM_IS_DENSE, accepts_old
from spring_integrations.cli.options import takes_settings
from spring_integrations.cli.progress import Counter, counting, working
from spring_integrations.errors import SettingsError
from spring_integrations.evaluation.config import EvaluationConfig

if TYPE_CHECKING:
    from spring_integrations.evaluation.run_folder import Prediction

_OLD_NAMES = {"--passages": "--top", "--batch": "--batch-size", "--corpus": "--docs", "--compare": "--error-analysis"}


@app.command(cls=accepts_old(_OLD_NAMES, MINILM_IS_DENSE))
@takes_settings
def evaluate(
    *,
    data: Annotated[list[str], typer.Option(help="A dataset's name, or a .jsonl file; may be given several times.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the run; the same command again goes on in it.")],
    config: EvaluationConfig,
    split: Annotated[str | None, typer.Option(help="Split of the datasets.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions of each dataset.")] = None,
    encoding: Encoding = None,
    error_analysis: Annotated[str | None, typer.Option(help="Two systems to compare, as in 'A;B'.")] = None,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = None,
    gpus: Gpus = None,
) -> None:
    """Measure plain RAG, virtual tokens and trained baselines on questions with answers.

    Writes predictions, report.json, report.md, plots and an error analysis into a folder. A run that was
    interrupted goes on. On several GPUs: accelerate launch -m spring_integrations.cli evaluate …
    """
    from spring_integrations.evaluation.datasets.loading import load_datasets

    pair = _pair(error_analysis)
    cluster = cluster_of(engine, address, workers, gpus)
    with working("Loading the questions"):
        questions = load_datasets(data, split=split, limit=limit, encoding=encoding)

    from spring_integrations.evaluation.compose import run_evaluation
    from spring_integrations.evaluation.runner import this_process

    ask = None
    if cluster is not None:
        from spring_integrations.distributed.answers import asking_on, systems_of

        ask = asking_on(cluster, systems_of(config))
    hide_loading_bars()
    with counting("Loading", visible=this_process().is_main_process) as counter:
        report = run_evaluation(
            questions,
            config,
            out_dir,
            compare=pair,
            progress=_showing(counter),
            counting=counting,
            ask=ask,
            encoding=encoding,
        )
    if report is not None:
        out.print(shown(report.text))
        for file in report.files:
            out.print(str(file), style="dim")


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    first, semicolon, second = text.partition(";")
    if not semicolon:
        msg = f"--error-analysis must be two systems with a semicolon between them, got {text!r}"
        raise SettingsError(msg)
    return first.strip(), second.strip()


def _showing(counter: Counter) -> Callable[[Sequence[Prediction], int], None]:
    """Returns what counts predictions, and shows the running scores of the system that answered last."""
    scores: dict[tuple[str, str, int], list[Mapping[str, float]]] = {}
    done = 0

    def update(new: Sequence[Prediction], total: int) -> None:
        nonlocal done
        done += len(new)
        for p in new:
            scores.setdefault((p.system, p.retriever, p.passages), []).append(p.scores)
        what = None
        if new:
            last = new[-1]
            running = scores[last.system, last.retriever, last.passages]
            em, f1 = (100 * fmean(s[metric] for s in running) for metric in ("em", "f1"))
            where = f"{last.retriever} {last.passages}" if last.passages else "closed-book"
            what = f"{last.system}, {where}: EM {em:.1f}, F1 {f1:.1f}"
        counter(done, total=total, what=what)

    return update
