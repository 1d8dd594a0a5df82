"""An export in a vLLM engine of this process, asked as a `SpringModel` is: bulk answers without a server.

Tokenizer, window and prompts are the local runtime's, so that the engine gets the ids that `SpringModel` would run.
The engine alone holds weights.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig
from typing_extensions import Self

from spring_integrations.errors import MissingExtraError, SettingsError, TokensError
from spring_integrations.export.checkpoint import Checkpoint, empty_model
from spring_integrations.export.merged import Exported
from spring_integrations.export.words import load_words
from spring_integrations.prompts import RagPrompt
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.detokenize import Completion, Reader
from spring_integrations.runtime.model import SpringModel
from spring_integrations.runtime.result import Encoded, Generation
from spring_integrations.runtime.settings import GenerationSettings
from spring_integrations.tokens import SpringTokens, TokensMetadata


class ExportedBackbone(Backbone):
    """A backbone whose weights an engine holds, and whose vocabulary the virtual tokens belong to."""

    def __init__(self, folder: Path, first_id: int, tokens: SpringTokens, engine: Mapping[str, Any]) -> None:
        """Takes an export.

        Args:
            folder: where it is.
            first_id: id of `[ref1]`.
            tokens: those in it.
            engine: arguments of `vllm.LLM`.

        Raises:
            BackboneError: if its tokenizer cannot be loaded.
        """
        dtype = engine.get("dtype", "auto")
        config = AutoConfig.from_pretrained(folder)
        model = empty_model(config, config.dtype if dtype == "auto" else getattr(torch, str(dtype), None))
        if (folder / "generation_config.json").exists():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        super().__init__(model, load_words(folder, str(folder)), str(folder))
        self._first_id, self._digest = first_id, tokens.digest
        self._arguments = dict(engine)
        self._engine: Any = None

    @property
    def window(self) -> int:
        """Number of positions: the model's, or as many as the engine is to have."""
        given = self._arguments.get("max_model_len")
        return min(super().window, given) if isinstance(given, int) and given > 0 else super().window

    def attach(self, tokens: SpringTokens) -> int:
        """Returns the id of the first virtual token.

        Raises:
            TokensError: if they are not the exported ones.
        """
        if tokens.digest != self._digest:
            msg = f"{self.name} was exported with other virtual tokens; export these with the backbone, too"
            raise TokensError(msg)
        return self._first_id

    def answer(self, rows: Sequence[list[int]], settings: GenerationSettings) -> list[Completion]:
        """Returns what the engine writes after each row of ids.

        Raises:
            MissingExtraError: if vLLM is not installed.
            SettingsError: for beam search, or if the engine does not start with its arguments.
        """
        if settings.num_beams > 1:
            msg = f"num_beams={settings.num_beams}: a vLLM engine does no beam search here; use num_beams=1"
            raise SettingsError(msg)
        vllm, reader = _vllm(), Reader(self, settings.stop)
        sampling = vllm.SamplingParams(
            max_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_k=settings.top_k or 0,
            top_p=settings.top_p or 1.0,
            repetition_penalty=settings.repetition_penalty,
            stop=[*settings.stop],
            seed=settings.seed,
        )
        with self.lock:
            if self._engine is None:
                self._engine = self._started(vllm)
            done = self._engine.generate([{"prompt_token_ids": row} for row in rows], sampling, use_tqdm=False)
        written = [answer.outputs[0] for answer in done]
        return [Completion(reader.text([*w.token_ids]), len(w.token_ids), w.finish_reason) for w in written]

    def _started(self, vllm: Any) -> Any:
        try:
            return vllm.LLM(model=self.name, **self._arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            msg = f"vLLM does not start on {self.name!r} with engine={self._arguments}: {error}"
            raise SettingsError(msg) from error


class EngineModel(SpringModel):
    """An exported checkpoint in a vLLM engine of this process, for bulk work such as `answer_distributed`.

    It is asked as a `SpringModel` is, and prompts become the same ids. The engine starts with the first answer. A
    stream comes in one piece, and answers cannot be scored.
    """

    def __init__(self, backbone: ExportedBackbone, **properties: Any) -> None:
        """Takes what `open` makes of an export.

        Raises:
            SettingsError: for any other backbone.
        """
        if not isinstance(backbone, ExportedBackbone):
            msg = "an EngineModel answers from an export; open one with EngineModel.open(folder)"
            raise SettingsError(msg)
        super().__init__(backbone, **properties)
        self._exported = backbone

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, engine: Mapping[str, Any] | None = None, **properties: Any
    ) -> Self:
        """Opens an export.

        Args:
            folder: of `export_checkpoint` or `spring-rag export`.
            engine: arguments of `vllm.LLM` beside the model, such as `{"max_model_len": 4096}`.
            properties: as `SpringModel` takes them, such as `k` and `settings`.

        Raises:
            BackboneError: if the folder holds no export.
            TokenCountError: if k is outside 0…n.
        """
        facts = Exported.read(folder)
        checkpoint = Checkpoint.open(str(folder))
        rows = torch.cat([*checkpoint.read_rows(checkpoint.embedding, facts.first_id)])[: facts.n]
        tokens = SpringTokens(rows.float(), TokensMetadata(backbone=facts.backbone))
        backbone = ExportedBackbone(checkpoint.folder, facts.first_id, tokens, engine or {})
        return cls(backbone, tokens=tokens, **{"on_other_backbone": "ignore"} | properties)

    def stream(
        self, prompt: str | RagPrompt, *, k: int | None = None, **settings: Any
    ) -> Generator[str | Generation, None, None]:
        """Yields the whole answer, and the `Generation`."""
        (answer,) = self.generate(prompt, k=k, **settings)
        yield answer.text
        yield answer

    def score(
        self, prompt: str | RagPrompt, answers: Sequence[str], *, k: int | None = None, add_eos: bool = False
    ) -> list[float]:
        """Raises SettingsError: the engine is not asked for probabilities."""
        msg = "a vLLM engine is not asked for probabilities here; load the backbone with SpringModel for score()"
        raise SettingsError(msg)

    def _complete(self, encoded: Sequence[Encoded], settings: GenerationSettings) -> list[Completion]:
        return self._exported.answer([e.ids for e in encoded], settings)


def _vllm() -> Any:
    try:
        return importlib.import_module("vllm")
    except ModuleNotFoundError as error:
        msg = "the package 'vllm' is not installed; install it with: pip install vllm (it brings its own torch)"
        raise MissingExtraError(msg) from error
