"""The model card beside a trained tokens file or adapter, with its loss curve."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from spring_integrations._optional import require
from spring_integrations.tokens import FILE_NAME, SpringTokens, TokensMetadata
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.loop import plain_scores

CARD_FILE = "README.md"
PLOT_FILE = "loss.png"
ENCODER_FOLDER = "query_encoder"
LIBRARY = "spring-integrations"
TAGS = ("retrieval-augmented-generation", "soft-prompts")
_MARKED = 40
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)

_TITLES = {
    "spring": "SPRING virtual tokens",
    "spring-fixed": "SPRING virtual tokens with a fixed k",
    "prompt": "Prompt-tuning adapter",
    "prefix": "Prefix-tuning adapter",
    "lora": "LoRA adapter",
    "full": "Generator",
}
_LOAD_TOKENS = """from spring_integrations.langchain import SpringHFLLM  # or spring_integrations.llama_index

llm = SpringHFLLM({backbone!r}, {folder!r})"""
_LOAD_SEQ2SEQ = """from spring_integrations.decoding import Seq2SeqModel

model = Seq2SeqModel.from_pretrained({backbone!r}, {folder!r})"""
_LOAD_ADAPTER = """from spring_integrations.training import load_trained

model = load_trained({backbone!r}, {folder!r})"""
_LOAD_MODEL = """from spring_integrations.decoding import Seq2SeqModel

model = Seq2SeqModel.from_pretrained({folder!r})"""
_ENCODER = """

## Query encoder

It was trained together with the generator, on -log Σ p(passage | question) p(answer | passage, question) (Lewis et
al. 2020) over the {count} passages that it retrieved from an index of {passages} ({similarity}; scores are divided by
{temperature:g}). The vectors of passages are those of the passage encoder before.

```python
from sentence_transformers import SentenceTransformer  # or transformers' DPRQuestionEncoder

encoder = SentenceTransformer({folder!r})
```"""


def write_card(folder: Path, metadata: TokensMetadata, config: TrainConfig, history: list[dict[str, float]]) -> Path:
    """Writes README.md and loss.png.

    Args:
        folder: holds the result.
        metadata: the model, the data and the final metrics.
        config: the settings.
        history: the trainer's log: losses and validations by step.
    """
    _plot(folder / PLOT_FILE, history)
    facts = metadata.training
    tokens = (folder / FILE_NAME).is_file()
    header = ModelCardData(
        base_model=hub_id(metadata.backbone),
        library_name=LIBRARY,
        license=metadata.license.lower() or None,
        tags=[*TAGS, config.method],
    )
    load = _LOAD_SEQ2SEQ if facts.get("encoder_decoder") else _LOAD_TOKENS if tokens else _LOAD_ADAPTER
    origin = "on the frozen backbone"
    if config.method == "full":
        load, origin = _LOAD_MODEL, "from"
    revision = f" (revision {metadata.revision})" if metadata.revision else ""
    card = f"""---
{header.to_yaml()}
---

# {_TITLES[config.method]} for {metadata.backbone}

Trained {origin} {metadata.backbone}{revision} by spring-integrations {facts["spring_integrations"]}.
{_prompts(config)}{_placement(config)}.

```python
{load.format(backbone=metadata.backbone, folder=folder.name)}
```{_encoder(folder, facts)}

## Result

{_table("metric", facts["metrics"])}

![loss by step]({PLOT_FILE})

## Data

{_data(facts["data"])}

Validation: {_data(facts["validation"])}

## Settings

{_table("setting", asdict(config))}
"""
    path = folder / CARD_FILE
    path.write_text(card, encoding="utf-8")
    return path


def short_card(tokens: SpringTokens, backbone: str, folder: str) -> str:
    """Returns the card of virtual tokens that nothing more is known of.

    Args:
        tokens: the virtual tokens.
        backbone: its hub id.
        folder: that holds them.
    """
    header = ModelCardData(base_model=backbone, library_name=LIBRARY)
    return f"""---
{header.to_yaml()}
---

# {_TITLES["spring"]} for {backbone}

{len(tokens)} virtual tokens of width {tokens.width}. They stand between retrieved context and question.

```python
{_LOAD_TOKENS.format(backbone=backbone, folder=folder)}
```
"""


def hub_id(name: str) -> str | None:
    """Returns a name if it is an id on a hub, "org/name", and no path on this machine."""
    return name if _HUB_ID.fullmatch(name) and not Path(name).exists() else None


def _prompts(config: TrainConfig) -> str:
    if config.layouts == ("paper",):
        return "The prompt is the paper's: numbered passages, then `Question: …\\nAnswer:`"
    return f"Each example was shown in one of the layouts {', '.join(config.layouts)}: passages, then the question"


def _placement(config: TrainConfig) -> str:
    if config.method == "spring":
        return f", the virtual tokens between them. Any first k of the {config.n} can be used"
    if config.method == "spring-fixed":
        return f", all {config.n} virtual tokens between them"
    return ""


def _encoder(folder: Path, facts: Mapping[str, Any]) -> str:
    if "query_encoder" not in facts:
        return ""
    return _ENCODER.format(count=facts["num_passages"], folder=f"{folder.name}/{ENCODER_FOLDER}", **facts["index"])


def _table(name: str, values: dict[str, Any]) -> str:
    rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in values.items())
    return f"| {name} | value |\n|---|---|\n{rows}"


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def _data(facts: Any) -> str:
    if not isinstance(facts, list):
        if not facts["examples"]:
            return "none."
        return f"{facts['examples']} examples (SHA-256 `{facts['sha256']}`)."
    rows = "\n".join(
        f"| {f['name']} | {f['examples']} | {f['skipped']} | {f['weight']:g} | `{f['sha256']}` |" for f in facts
    )
    return f"\n\n| file | examples | skipped lines | weight | SHA-256 |\n|---|---|---|---|---|\n{rows}"


def _plot(path: Path, history: list[dict[str, float]]) -> None:
    figure = require("matplotlib.figure", extra="train").Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    losses = [(e["step"], e["loss"]) for e in history if "loss" in e]
    marker = "o" if len(losses) <= _MARKED else ""  # a line through one point is invisible
    if losses:
        axes.plot(*zip(*losses, strict=True), color="tab:blue", marker=marker, markersize=3, label="training loss")
    axes.set(xlabel="step", ylabel="loss (nats per answer token)")
    validated = [(e["step"], e["eval_f1"]) for e in history if "eval_f1" in e]
    if validated:
        other = axes.twinx()
        other.plot(*zip(*validated, strict=True), color="tab:orange", marker="o", label="validation F1")
        other.set_ylabel("F1 (%)")
        if plain := plain_scores(history):
            other.axhline(plain["plain_f1"], color="tab:orange", linestyle="--", linewidth=1, label="F1 with k = 0")
    figure.legend(loc="outside upper right", ncols=2)
    figure.savefig(path, dpi=120)
