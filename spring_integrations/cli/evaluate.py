"""`spring-rag evaluate`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from spring_integrations.cli.answers import folder_for, ingest
from spring_integrations.cli.app import DEMO, app, err, hide_loading_bars, out, shown
from spring_integrations.errors import DataError, SettingsError
from spring_integrations.passages import Passage

if TYPE_CHECKING:
    from spring_integrations.evaluation.general import Change
    from spring_integrations.evaluation.predictions import Prediction, RunFolder
    from spring_integrations.evaluation.questions import Question
    from spring_integrations.evaluation.systems import DecodedSystem, PromptedSystem, System
    from spring_integrations.model import SpringModel
    from spring_integrations.passages import Index

_ADAPTER = "adapter_config.json"
_GOLD_WORDS = 150  # longer gold passages are split, as three of them would not fit a small model


@app.command()
def evaluate(
    data: Annotated[list[str], typer.Option(help="A dataset's name, or a .jsonl file; may be given several times.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the run; the same command again goes on in it.")],
    model: Annotated[str, typer.Option(help="A local model folder, a hub id, or the embedded model.")] = DEMO,
    tokens: Annotated[str | None, typer.Option(help="Virtual tokens; the embedded model brings its own.")] = None,
    k: Annotated[str | None, typer.Option(help="Virtual tokens, as in 1,10,50; all unless given.")] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of something trained, as lora=runs/lora.")
    ] = None,
    prompt: Annotated[
        str, typer.Option(help="Prompts of plain RAG: paper, langchain, llama-index, flashrag.")
    ] = "paper",
    decoding: Annotated[str | None, typer.Option(help="rag-token, rag-sequence, rag-sequence-fast.")] = None,
    retriever: Annotated[str, typer.Option(help="bm25, minilm, or both with a comma between them.")] = "bm25",
    passages: Annotated[str, typer.Option(help="Passages a question, as in 3 or 1,3,5.")] = "3",
    corpus: Annotated[
        Path | None, typer.Option(help="File or folder to retrieve from; the questions' gold passages unless given.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the datasets.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions of each dataset.")] = None,
    batch: Annotated[int, typer.Option(help="Questions at once.")] = 16,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer in tokens.")] = 32,
    cache_gb: Annotated[float, typer.Option(help="Memory for a batch's contexts, shared by all k; 0: none.")] = 4.0,
    compare: Annotated[str | None, typer.Option(help="Two systems for the error analysis, as in 'A;B'.")] = None,
    dtype: Annotated[str, typer.Option(help="Type to load the model in, such as bfloat16.")] = "auto",
) -> None:
    """Measure plain RAG, virtual tokens and trained baselines on questions with answers.

    Writes predictions, report.json, report.md, plots and an error analysis into a folder. A run that was
    interrupted goes on. On several GPUs: accelerate launch -m spring_integrations.cli evaluate …
    """
    from spring_integrations.evaluation.datasets import load_questions

    ks = _numbers("--k", k) if k is not None else None
    numbers = _numbers("--passages", passages)
    folders = _folders(baseline or [])
    pair = _pair(compare)
    questions = [q for name in data for q in load_questions(name, split=split, limit=limit)]
    found = _corpus(questions, corpus)

    from spring_integrations.evaluation import runner
    from spring_integrations.evaluation.report import write_report

    hide_loading_bars()
    state = runner.this_process()
    place = {"": state.device} if state.device.type != "cpu" else None
    spring = _load(model, tokens, dtype, place, cache_gb)
    trained = {name: _trained(spring, folder, dtype, place) for name, folder in folders.items()}
    systems: list[System] = [
        *_systems(spring, ks, _names(prompt), max_new_tokens),
        *(s for name, folder in folders.items() for s in _baseline(trained[name], name, folder, ks, max_new_tokens)),
        *_decoded(spring, _names(decoding or ""), max_new_tokens),
    ]
    with folder_for(None) as temporary, _bar(visible=state.is_main_process) as progress:
        run = runner.evaluate(
            questions,
            systems,
            out_dir,
            retrievers=_retrievers(_names(retriever), found, temporary),
            passages=numbers,
            batch_size=batch,
            details={"corpus": _digest(f"{p.title}\n{p.text}".encode() for p in found)},
            progress=progress,
        )
    if state.is_main_process:
        report = write_report(run, compare=pair, general=_general(run, spring, trained))
        out.print(shown(report.text))
        for file in report.files:
            out.print(str(file), style="dim")


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        msg = f"{option} must be whole numbers with commas between them, got {text!r}"
        raise SettingsError(msg) from error


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    first, semicolon, second = text.partition(";")
    if not semicolon:
        msg = f"--compare must be two systems with a semicolon between them, got {text!r}"
        raise SettingsError(msg)
    return first.strip(), second.strip()


def _folders(given: Sequence[str]) -> dict[str, Path]:
    folders = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not Path(folder).exists():
            msg = f"--baseline must be NAME=FOLDER, where the folder was made by spring-rag train, got {text!r}"
            raise SettingsError(msg)
        folders[name] = Path(folder)
    return folders


def _corpus(questions: Sequence[Question], path: Path | None) -> list[Passage]:
    from spring_integrations.retrieval import read_passages, split_text

    if path is not None:
        return read_passages(path)
    gold = dict.fromkeys(
        (p.title, piece) for q in questions for p in q.gold_passages for piece in split_text(p.text, _GOLD_WORDS)
    )
    if not gold:
        msg = "the questions name no gold passages to retrieve from; give --corpus, a file or folder of texts"
        raise DataError(msg)
    return [Passage(text, title) for title, text in gold]


def _retrievers(names: Sequence[str], passages: Sequence[Passage], folder: Path) -> dict[str, Index]:
    from spring_integrations.retrieval.bm25 import BM25Index

    builders: dict[str, Callable[[], Index]] = {
        "bm25": lambda: BM25Index.build(passages),
        "minilm": lambda: ingest(passages, folder, "evaluate"),
    }
    if unknown := [name for name in names if name not in builders]:
        msg = f"there is no retriever {unknown[0]!r}; there are {', '.join(builders)}"
        raise SettingsError(msg)
    return {name: _WhenAsked(builders[name]) for name in names}


class _WhenAsked:
    """An index that is built when it is searched: a run that goes on has its passages already."""

    def __init__(self, build: Callable[[], Index]) -> None:
        self._build = build
        self._index: Index | None = None

    def search(self, query: str, k: int = 3) -> list[Passage]:
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int = 3) -> list[list[Passage]]:
        if self._index is None:
            self._index = self._build()
        return self._index.search_many(queries, k)


def _load(model: str, tokens: str | None, dtype: str, place: Any, cache_gb: float) -> SpringModel:
    from spring_integrations.context_cache import ContextCache
    from spring_integrations.model import SpringModel

    cache = ContextCache(int(cache_gb * 1e9)) if cache_gb else None
    return SpringModel.from_pretrained(model, tokens, dtype=dtype, device_map=place, context_cache=cache)


def _trained(spring: SpringModel, folder: Path, dtype: str, place: Any) -> SpringModel:
    """Loads what was trained; virtual tokens go onto the backbone that is there."""
    from spring_integrations.tokens import SpringTokens
    from spring_integrations.training import load_trained

    if (folder / _ADAPTER).is_file():
        return load_trained(spring.name, folder, dtype=dtype, device_map=place)
    return spring.with_changes(tokens=SpringTokens.load(folder))


def _systems(
    spring: SpringModel, ks: Sequence[int] | None, prompts: Sequence[str], max_new_tokens: int
) -> list[PromptedSystem]:
    from spring_integrations.evaluation.systems import plain_systems, token_systems

    counts = _counts(spring, ks)
    plain = plain_systems(spring, prompts, max_new_tokens=max_new_tokens)
    return [*plain, *token_systems(spring, "SPRING", counts, max_new_tokens=max_new_tokens)]


def _baseline(
    model: SpringModel, name: str, folder: Path, ks: Sequence[int] | None, max_new_tokens: int
) -> list[PromptedSystem]:
    from spring_integrations.evaluation.systems import PromptedSystem, token_systems

    if model.tokens is not None:
        return token_systems(model, name, _counts(model, ks), max_new_tokens=max_new_tokens)
    kind = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))["peft_type"]
    weights = _digest(file.read_bytes() for file in sorted(folder.glob("adapter_*")))
    return [
        PromptedSystem(
            name,
            model,
            name,
            closed_book=True,
            batch=kind == "LORA",  # PEFT puts the others' tokens before the padding of a batch
            source=weights,
            max_new_tokens=max_new_tokens,
        )
    ]


def _counts(model: SpringModel, ks: Sequence[int] | None) -> list[int]:
    """Returns the numbers of virtual tokens to use: those asked for, or all; 0 is plain RAG, which is there anyway."""
    return [k for k in ([model.k] if ks is None else ks) if k]


def _decoded(spring: SpringModel, methods: Sequence[Any], max_new_tokens: int) -> list[DecodedSystem]:
    if not methods:
        return []
    from spring_integrations.decoding import RagDecoder
    from spring_integrations.evaluation.systems import DecodedSystem

    model = f"{spring.name} {spring.tokens.digest if spring.tokens else ''}"
    return [
        DecodedSystem(
            f"{method}, k = {spring.k}",
            RagDecoder(spring, method, score_temperature="auto"),
            f"{method} {model}",
            k=spring.k,
            max_new_tokens=max_new_tokens,
        )
        for method in methods
    ]


def _general(run: RunFolder, spring: SpringModel, trained: Mapping[str, SpringModel]) -> dict[str, Change]:
    """Returns how plain generation changed, with unused virtual tokens and with each adapter."""
    from spring_integrations.evaluation.general import Change, general_ability

    adapters = {name: model for name, model in trained.items() if model.tokens is None}
    found = run.once("general.json", lambda: {n: vars(c) for n, c in general_ability(spring, adapters).items()})
    return {name: Change(**record) for name, record in found.items()}


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\0")
    return digest.hexdigest()[:32]


@contextmanager
def _bar(*, visible: bool) -> Iterator[Callable[[Sequence[Prediction], int], None]]:
    """Yields what draws predictions as a bar, with the running scores of the system that answered last."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    scores: dict[tuple[str, str, int], list[Mapping[str, float]]] = {}
    bar = Progress(*columns, console=err, disable=not visible)
    task = bar.add_task("Evaluating", total=None)

    def update(new: Sequence[Prediction], total: int) -> None:
        bar.start()  # not before there is something to show: errors come alone, and indexes have bars of their own
        for p in new:
            scores.setdefault((p.system, p.retriever, p.passages), []).append(p.scores)
        bar.update(task, total=total, advance=len(new))
        if new:
            last = new[-1]
            running = scores[last.system, last.retriever, last.passages]
            em, f1 = (100 * fmean(s[metric] for s in running) for metric in ("em", "f1"))
            where = f"{last.retriever} {last.passages}" if last.passages else "closed-book"
            bar.update(task, description=f"{shown(last.system)}, {where}: EM {em:.1f}, F1 {f1:.1f}")

    try:
        yield update
    finally:
        bar.stop()
