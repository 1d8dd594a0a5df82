"""Settings of an evaluation, checked on construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spring_integrations._choices import check_amount, check_choice, check_size
from spring_integrations.errors import SettingsError
from spring_integrations.evaluation.prompts import PAPER, PROMPTS, prompt_named
from spring_integrations.passages import RetrieverKind

Decoding = Literal["concat", "rag-token", "rag-sequence", "rag-sequence-fast"]
"""How passages become an answer: in one prompt, or marginalised over prompts of one passage each."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What an evaluation compares, on which passages.

    Every field says in its metadata what it is; `spring-rag evaluate` makes its options of them.
    """

    model: str = field(default="demo", metadata={"help": "A local model folder, a hub id, or the embedded model."})
    tokens: str | None = field(default=None, metadata={"help": "Virtual tokens; the embedded model brings its own."})
    k: tuple[int, ...] | None = field(
        default=None, metadata={"help": "Virtual tokens, as in 1,10,50; all unless given. k = 0 is always there."}
    )
    baselines: Mapping[str, Path] = field(
        default_factory=dict,
        metadata={"help": "Something that spring-rag train made, as lora=runs/lora.", "option": "--baseline"},
    )
    prompts: tuple[str, ...] = field(
        default=(PAPER,), metadata={"help": f"Prompts of plain RAG: {', '.join(PROMPTS)}.", "option": "--prompt"}
    )
    decodings: tuple[Decoding, ...] = field(
        default=("concat",),
        metadata={
            "help": "concat: one prompt of all passages, which is always there; rag-token, rag-sequence and "
            "rag-sequence-fast marginalise over the passages.",
            "option": "--decoding",
        },
    )
    retrievers: tuple[RetrieverKind, ...] = field(
        default=("bm25",),
        metadata={"help": "bm25, dense, hybrid, or several with commas between them.", "option": "--retriever"},
    )
    embedder: str = field(
        default="minilm", metadata={"help": "Of dense and hybrid: minilm, dpr, e5-base-v2, …, or a folder."}
    )
    top: tuple[int, ...] = field(default=(3,), metadata={"help": "Passages a question, as in 3 or 1,3,5."})
    docs: Path | None = field(
        default=None,
        metadata={"help": "File or folder to retrieve from; the questions' gold passages unless given."},
    )
    batch_size: int = field(default=16, metadata={"help": "Questions at once."})
    max_new_tokens: int = field(default=32, metadata={"help": "Longest answer, in tokens."})
    cache_gb: float = field(default=4.0, metadata={"help": "Memory for a batch's contexts, shared by all k; 0: none."})
    dtype: str = field(default="auto", metadata={"help": "Type to load the model in, such as bfloat16."})

    def __post_init__(self) -> None:
        """Raises SettingsError for an impossible value."""
        check_size("batch_size", self.batch_size)
        if self.max_new_tokens < 1:
            msg = f"max_new_tokens must be at least 1, got {self.max_new_tokens}"
            raise SettingsError(msg)
        check_amount("cache_gb", self.cache_gb)
        for name in ("prompts", "retrievers", "top"):
            values = getattr(self, name)
            if not values or len({*values}) < len(values):
                msg = f"{name} must be one or several different values, got {list(values)}"
                raise SettingsError(msg)
        if min(self.top) < 1:
            msg = f"top must be numbers of passages of at least 1, got {list(self.top)}"
            raise SettingsError(msg)
        for prompt in self.prompts:
            prompt_named(prompt)
        for decoding in self.decodings:
            check_choice("decodings", decoding, Decoding)
        for retriever in self.retrievers:
            check_choice("retrievers", retriever, RetrieverKind)
        if {*self.retrievers} == {"bm25"} and self.embedder != EvaluationConfig.embedder:
            msg = f"embedder={self.embedder!r} has nothing to do for retrievers=['bm25']; add dense or hybrid"
            raise SettingsError(msg)
