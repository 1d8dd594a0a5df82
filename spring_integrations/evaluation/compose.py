"""What an evaluation compares: a corpus, retrievers over it, and systems, all made of its settings.

config = EvaluationConfig("demo", k=(1, 50), retrievers=("bm25", "dense"))
report = run_evaluation(load_questions("nq", limit=500), config, "results")
print(report.text)
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spring_integrations.decoding import RagDecoder
from spring_integrations.errors import DataError
from spring_integrations.evaluation.config import EvaluationConfig
from spring_integrations.evaluation.questions import Question
from spring_integrations.evaluation.report import Report, check_compared, write_report
from spring_integrations.evaluation.run_folder import RunFolder
from spring_integrations.evaluation.runner import Asking, Progress, evaluate, this_process
from spring_integrations.evaluation.side_effects import Change, general_ability
from spring_integrations.evaluation.systems import (
    DecodedSystem,
    PromptedSystem,
    System,
    plain_systems,
    token_systems,
)
from spring_integrations.passages import Index, Passage, RetrieverKind
from spring_integrations.retrieval import BM25Index, IndexFolder, read_passages, split_text
from spring_integrations.runtime.context_cache import ContextCache
from spring_integrations.runtime.model import SpringModel
from spring_integrations.tokens import SpringTokens
from spring_integrations.training import load_trained

Counting = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows a stage of so many steps; what it yields is told how many are done."""

_ADAPTER = "adapter_config.json"
_GOLD_WORDS = 150  # longer gold passages are split, as three of them would not fit a small model


@dataclass(frozen=True)
class Composition:
    """What is compared, on which passages.

    Attributes:
        model: the model that plain RAG and virtual tokens are asked on.
        systems: all that is asked.
        adapters: what was trained into copies of the model, by name.
        corpus: the passages that the retrievers search.
    """

    model: SpringModel
    systems: tuple[System, ...]
    adapters: Mapping[str, SpringModel]
    corpus: tuple[Passage, ...]


def run_evaluation(
    questions: Sequence[Question],
    config: EvaluationConfig,
    out: str | os.PathLike[str],
    *,
    compare: tuple[str, str] | None = None,
    progress: Progress | None = None,
    counting: Counting | None = None,
    ask: Asking | None = None,
    encoding: str | None = None,
) -> Report | None:
    """Loads what the settings name, asks the questions, and writes the report; an interrupted run goes on.

    Args:
        questions: of one dataset or several.
        config: what is compared.
        out: folder of the run, for predictions, report, plots and the error analysis.
        compare: two systems for the error analysis, as in `write_report`.
        progress: told of predictions as they are made, as in `evaluate`.
        counting: shows how passages are embedded.
        ask: where the systems are asked, as in `evaluate`.
        encoding: of the documents; None takes UTF-8, or a guess where they are not that.

    Returns:
        The report; None in all processes but the main one.

    Raises:
        DataError: if the questions cannot be used, or name no gold passages where `config.docs` is None.
        SettingsError: for settings that do not fit each other, or if `out` holds another run.
        TokenCountError: for a k beyond the tokens of a model.
        StorageError: if `out` cannot be written.
    """
    state = this_process()
    place = {"": state.device} if state.device.type != "cpu" else None
    made = compose(questions, config, place=place, encoding=encoding)
    if compare is not None:
        check_compared(compare, (system.name for system in made.systems if system.retrieval))
    corpus = _digest(f"{p.title}\n{p.text}".encode() for p in made.corpus)
    embedder = {} if {*config.retrievers} == {"bm25"} else {"embedder": config.embedder}
    with tempfile.TemporaryDirectory(prefix="spring-rag-", ignore_cleanup_errors=True) as folder:
        run = evaluate(
            questions,
            made.systems,
            out,
            retrievers=retrievers(made.corpus, config, Path(folder), counting=counting),
            passages=config.top,
            batch_size=config.batch_size,
            details={"corpus": corpus, **embedder},
            progress=progress,
            ask=ask,
        )
    if not state.is_main_process:
        return None
    return write_report(run, compare=compare, general=_general(run, made))


def compose(
    questions: Sequence[Question], config: EvaluationConfig, *, place: Any = None, encoding: str | None = None
) -> Composition:
    """Loads the model, what is compared with it, and the corpus.

    Args:
        questions: their gold passages are the corpus where `config.docs` is None.
        config: what is compared.
        place: where models are loaded, as `device_map` takes it.
        encoding: of the documents, as in `run_evaluation`.

    Raises:
        DataError: if there is no corpus.
        SettingsError: if a baseline does not fit the model.
        TokenCountError: for a k beyond the tokens of a model.
    """
    corpus = gold_corpus(questions) if config.docs is None else read_passages(config.docs, encoding=encoding)
    model, systems, trained = load_systems(config, place=place)
    adapters = {name: found for name, found in trained.items() if found.tokens is None}
    return Composition(model, systems, adapters, tuple(corpus))


def load_systems(
    config: EvaluationConfig, *, place: Any = None
) -> tuple[SpringModel, tuple[System, ...], dict[str, SpringModel]]:
    """Loads the model, and what is compared with it.

    Args:
        config: what is compared.
        place: where models are loaded, as `device_map` takes it.

    Returns:
        The model, all systems, and by name the models of the baselines.

    Raises:
        SettingsError: if a baseline does not fit the model.
        TokenCountError: for a k beyond the tokens of a model.
    """
    cache = ContextCache(int(config.cache_gb * 1e9)) if config.cache_gb else None
    model = SpringModel.from_pretrained(
        config.model, config.tokens, dtype=config.dtype, device_map=place, context_cache=cache
    )
    trained = {name: _trained(model, folder, config.dtype, place) for name, folder in config.baselines.items()}
    systems: list[System] = [
        *plain_systems(model, config.prompts, max_new_tokens=config.max_new_tokens),
        *token_systems(model, "SPRING", _counts(model, config), max_new_tokens=config.max_new_tokens),
    ]
    for name, folder in config.baselines.items():
        systems += _baseline(trained[name], name, folder, config)
    systems += _decoded(model, config)
    return model, tuple(systems), trained


def gold_corpus(questions: Sequence[Question]) -> list[Passage]:
    """Returns the gold passages of all questions, each once, and long ones in pieces.

    Raises:
        DataError: if there are none.
    """
    gold = dict.fromkeys(
        (p.title, piece) for q in questions for p in q.gold_passages for piece in split_text(p.text, _GOLD_WORDS)
    )
    if not gold:
        msg = "the questions name no gold passages to retrieve from; give docs (--docs), a file or folder of texts"
        raise DataError(msg)
    return [Passage(text, title) for title, text in gold]


def retrievers(
    passages: Sequence[Passage], config: EvaluationConfig, folder: Path, *, counting: Counting | None = None
) -> dict[str, Index]:
    """Returns the retrievers of an evaluation by name; each is built when it is searched first.

    Args:
        passages: the corpus.
        config: names retrievers and embedder.
        folder: for the vectors.
        counting: shows how passages are embedded.
    """
    embedded: RetrieverKind = (
        "hybrid" if "hybrid" in config.retrievers else "dense"
    )  # one that holds the other's vectors

    def build(kind: RetrieverKind) -> Index:
        if kind == "bm25":
            return BM25Index.build(passages)
        index = IndexFolder(folder, embedded, config.embedder)
        with counting("Embedding passages", len(passages)) if counting else nullcontext() as progress:
            index.add(passages, progress=progress)
        return index.open(kind)

    return {name: _WhenAsked(name, build) for name in config.retrievers}


class _WhenAsked:
    """An index that is built when it is searched: a run that goes on has its passages already."""

    def __init__(self, kind: RetrieverKind, build: Callable[[RetrieverKind], Index]) -> None:
        self._kind: RetrieverKind = kind
        self._build = build
        self._index: Index | None = None

    def search(self, query: str, top: int = 3) -> list[Passage]:
        return self.search_many([query], top)[0]

    def search_many(self, queries: Sequence[str], top: int = 3) -> list[list[Passage]]:
        if self._index is None:
            self._index = self._build(self._kind)
        return self._index.search_many(queries, top)


def _trained(model: SpringModel, folder: Path, dtype: str, place: Any) -> SpringModel:
    """Loads what was trained; virtual tokens go onto the backbone that is there."""
    if (folder / _ADAPTER).is_file():
        return load_trained(model.name, folder, dtype=dtype, device_map=place)
    return model.with_changes(tokens=SpringTokens.load(folder))


def _baseline(model: SpringModel, name: str, folder: Path, config: EvaluationConfig) -> list[PromptedSystem]:
    if model.tokens is not None:
        return token_systems(model, name, _counts(model, config), max_new_tokens=config.max_new_tokens)
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
            max_new_tokens=config.max_new_tokens,
        )
    ]


def _counts(model: SpringModel, config: EvaluationConfig) -> list[int]:
    """Returns the numbers of virtual tokens to use: those asked for, or all; 0 is plain RAG, which is there anyway."""
    return [k for k in ((model.k,) if config.k is None else config.k) if k]


def _decoded(model: SpringModel, config: EvaluationConfig) -> list[DecodedSystem]:
    source = f"{model.name} {model.tokens.digest if model.tokens else ''}"
    return [
        DecodedSystem(
            f"{decoding}, k = {model.k}",
            RagDecoder(model, decoding, score_temperature="auto"),
            f"{decoding} {source}",
            k=model.k,
            max_new_tokens=config.max_new_tokens,
        )
        for decoding in config.decodings
        if decoding != "concat"
    ]


def _general(run: RunFolder, made: Composition) -> dict[str, Change]:
    """Returns how plain generation changed, with unused virtual tokens and with each adapter."""

    def compute() -> dict[str, Any]:
        return {name: vars(change) for name, change in general_ability(made.model, made.adapters).items()}

    return {name: Change(**record) for name, record in run.once("general.json", compute).items()}


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\0")
    return digest.hexdigest()[:32]
