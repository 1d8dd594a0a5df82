"""Tries every architecture of the table in concepts/architectures.md, and writes the table.

    python docs/architectures.py            # prints it
    python docs/architectures.py --write    # into the page

The models are those of the tests: random and small, but the real classes of transformers. Each cell is what a run
gave, never what is known.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import decoding_kit
import tiny_models

from spring_integrations import Passage, RagPrompt, SpringModel, SpringTokens
from spring_integrations.decoding import RagDecoder, Seq2SeqModel
from spring_integrations.errors import SpringError
from spring_integrations.export import export_checkpoint
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone
from spring_integrations.runtime.batching import pad
from spring_integrations.runtime.context_cache import ContextCache
from spring_integrations.training import Example, TrainConfig, train

PAGE = Path(__file__).parent / "concepts" / "architectures.md"
COLUMNS = ("loads", "as the paper's recipe", "in a batch as alone", "context cache", "trains", "exports")
FAMILIES = {
    "Llama": "llama",
    "Mistral": "mistral",
    "Mistral, sliding window": "mistral-sliding",
    "Qwen2": "qwen2",
    "Qwen3": "qwen3",
    "Gemma 2": "gemma2",
    "Gemma 3": "gemma3",
    "Phi-3": "phi3",
    "GPT-2": "gpt2",
    "GPT-NeoX": "gpt_neox",
    "OPT": "opt",
    "Falcon": "falcon",
    "Mamba": "mamba",
    "BART": "bart",
    "T5": "t5",
}
SEQ2SEQ = ("bart", "t5")
TOKENS = SpringTokens(torch.randn(8, tiny_models.WIDTH, generator=torch.Generator().manual_seed(1)))
PASSAGES = ("Lima is the capital of Peru.", "The river flows to the sea.", "Röntgen got the prize in 1901.")
PROMPTS = [RagPrompt.from_passages(PASSAGES[:n], "what is the capital of Peru?") for n in (1, 2, 3)]
NEW = 8


def row(family: str) -> list[str]:
    """Returns what each column says of a family: "yes", what is done instead, or "no" and why."""
    with tempfile.TemporaryDirectory() as folder:
        checks: list[Callable[[str, Path], str]] = (
            [_loads_seq2seq, _parity, _batch_seq2seq, _no_cache, _trains, _exports]
            if family in SEQ2SEQ
            else [_loads, _parity, _batch, _cache, _trains, _exports]
        )
        return [_tried(check, family, Path(folder) / str(i)) for i, check in enumerate(checks)]


def _tried(check: Callable[[str, Path], str], family: str, folder: Path) -> str:
    try:
        return check(family, folder)
    except SpringError as error:
        return f"no: {type(error).__name__}"


def _build(family: str) -> Backbone:
    if family in SEQ2SEQ:
        words = decoding_kit.seq2seq_tokenizer(family)
        return Seq2SeqBackbone((decoding_kit.bart if family == "bart" else decoding_kit.t5)(len(words)), words, family)
    return Backbone(*tiny_models.build(family), family)


def _model(family: str, **options: Any) -> SpringModel:
    return SpringModel(_build(family), tokens=TOKENS, **options)


def _saved(family: str, folder: Path) -> tuple[str, str]:
    backbone = _build(family)
    backbone.model.save_pretrained(folder / "model")
    backbone.tokenizer.save_pretrained(folder / "model")
    return str(folder / "model"), str(TOKENS.save(folder / "tokens.safetensors"))


def _loads(family: str, folder: Path) -> str:
    """Compares a folder's model with transformers' own objects."""
    source, tokens = _saved(family, folder)
    loaded = SpringModel.from_pretrained(source, tokens)
    objects = [auto.from_pretrained(source) for auto in (AutoModelForCausalLM, AutoTokenizer)]
    same = loaded.generate(PROMPTS, max_new_tokens=NEW) == SpringModel(*objects, TOKENS).generate(
        PROMPTS, max_new_tokens=NEW
    )
    weights = _build(family).model.state_dict()
    return _said(same and all(torch.equal(weights[name], t) for name, t in loaded.backbone.state_dict().items()))


def _loads_seq2seq(family: str, folder: Path) -> str:
    loaded = Seq2SeqModel.from_pretrained(*_saved(family, folder))
    return _said(_answers(loaded) == _answers(Seq2SeqModel(_build(family), tokens=TOKENS)))


def _answers(model: Seq2SeqModel, count: int = len(PASSAGES)) -> Any:
    passages = [Passage(text, id=str(i), score=1.0) for i, text in enumerate(PASSAGES[:count])]
    answer = RagDecoder(model, "rag-sequence").answer("capital?", passages, max_new_tokens=NEW, num_beams=2)
    return answer.text, round(answer.log_probability, 4)


def _parity(family: str, folder: Path) -> str:
    """Compares with a model whose embedding matrix has the tokens as rows, as the authors make it."""
    backbone = _build(family)
    first = backbone.attach(TOKENS)
    ids = torch.tensor([backbone.encode(PROMPTS[1], range(first, first + len(TOKENS)))])
    backbone.detach()
    body = backbone.model.get_encoder() if family in SEQ2SEQ else backbone.model
    grown = copy.deepcopy(body)
    embedding = grown.get_input_embeddings()
    embedding.weight = nn.Parameter(torch.cat([embedding.weight[:first], TOKENS.embeddings]))
    embedding.num_embeddings = len(embedding.weight)
    backbone.attach(TOKENS)
    with torch.inference_mode():
        ours, theirs = (m(input_ids=ids)[0] for m in (body, grown))
    return _said(torch.allclose(ours, theirs, atol=1e-5))


def _batch(family: str, folder: Path) -> str:
    model = _model(family)
    alone = [model.generate(prompt, max_new_tokens=NEW)[0] for prompt in PROMPTS]
    if model.generate(PROMPTS, max_new_tokens=NEW) == alone and _exact_logits(model):
        return "yes"
    return "prompts of one length" if model.generate([PROMPTS[0]] * 3, max_new_tokens=NEW) == alone[:1] * 3 else "no"


def _exact_logits(model: SpringModel) -> bool:
    answers = [" Lima is", " the sea"]
    together = model.score(PROMPTS[0], [*answers, " a much longer answer that pads the others"])[:2]
    return torch.allclose(
        torch.tensor(together), torch.tensor([model.score(PROMPTS[0], [a])[0] for a in answers]), atol=1e-3
    )


def _batch_seq2seq(family: str, folder: Path) -> str:
    model = Seq2SeqModel(_build(family), tokens=TOKENS)
    texts = [_score(model, [passage]) for passage in PASSAGES]
    return _said(torch.allclose(torch.tensor(_score(model, PASSAGES)), torch.tensor(texts).flatten(), atol=1e-3))


def _score(model: Seq2SeqModel, passages: Any) -> list[float]:
    """Returns log p(answer | passage) of each passage, as one batch."""
    backbone = model.frozen
    rows = [backbone.encode(model.prompt([p], "capital?"), backbone.virtual_ids(TOKENS, 8)) for p in passages]
    ids, mask = pad(rows, backbone.pad_id, side="right")
    labels = torch.tensor([backbone.text_ids("Lima and the sea")] * len(rows))
    with torch.inference_mode():
        logits = backbone.model(input_ids=ids, attention_mask=mask, labels=labels).logits.log_softmax(-1)
    return logits.gather(2, labels[..., None]).sum((1, 2)).tolist()


def _cache(family: str, folder: Path) -> str:
    cached = _model(family, context_cache=ContextCache())
    plain = _model(family)
    for k in (8, 0, 3):
        if cached.generate(PROMPTS, k=k, max_new_tokens=NEW) != plain.generate(PROMPTS, k=k, max_new_tokens=NEW):
            return "no"
    return "yes" if len(cached.context_cache or ()) else "not used"


def _no_cache(family: str, folder: Path) -> str:
    return "not used"


def _trains(family: str, folder: Path) -> str:
    examples = [Example("capital of Peru", ("Lima",), PASSAGES[:2]), Example("who", ("Röntgen",), PASSAGES[2:])]
    config = TrainConfig(n=4, epochs=8, batch_size=2, learning_rate=0.05, logging_steps=1, num_passages=1, k_samples=3)
    log = train(_build(family), examples, config, folder).log_history
    losses = [entry["loss"] for entry in log if "loss" in entry]
    return _said(sum(losses[-2:]) < sum(losses[:2]))


def _exports(family: str, folder: Path) -> str:
    source, tokens = _saved(family, folder)
    export_checkpoint(source, SpringTokens.load(tokens), folder / "out")
    served, words = (auto.from_pretrained(folder / "out") for auto in (AutoModelForCausalLM, AutoTokenizer))
    local, marks = SpringModel.from_pretrained(source, tokens), "".join(f"[ref{i + 1}]" for i in range(len(TOKENS)))
    for prompt in PROMPTS:
        text = RagPrompt(*(part.replace("[ref", "[\u2060ref") for part in (prompt.before, prompt.after)))
        ids = words(text.before + marks + text.after, return_tensors="pt").input_ids
        new = served.generate(ids, max_new_tokens=NEW, do_sample=False)[0, ids.shape[1] :]
        (answer,) = local.generate(text, max_new_tokens=NEW)
        if words.decode(new, skip_special_tokens=True).strip() != answer.text.strip():
            return "no"
    return "yes"


def _said(fine: bool) -> str:
    return "yes" if fine else "no"


def line(name: str) -> str:
    """Returns a family's line of the table."""
    return f"| {name} | {' | '.join(row(FAMILIES[name]))} |"


def table() -> str:
    """Returns the table in Markdown."""
    head = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    return "\n".join([*head, *map(line, FAMILIES)]) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(text[: text.index("| | ")] + table(), encoding="utf-8")
    else:
        print(table())
