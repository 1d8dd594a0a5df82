"""What a training step costs: ours, full back-propagation, and PEFT prompt-tuning.

    python benchmarks/training.py            # 8-layer Llama, 600-token contexts; minutes on 2 cores
    python benchmarks/training.py --data nq_open_dev.jsonl.gz    # ragged_speedup on real questions
    python benchmarks/training.py --quick    # a smaller model, under a minute

All compute a loss on the same answers and its gradient for 25 virtual tokens, weights frozen. `full` is
the usual recipe, `model(input_ids, labels=labels).loss`, whose output head runs at every position;
`full_answer_head` is the same with the head at the answers only; ours is the same objective as both.
Times are medians of rounds in which the peers take turns; `forward` is a forward pass alone, head at the
answers only. Activations are the bytes that autograd keeps for the backward pass, weights not counted.
`ragged_speedup` is in answer tokens a second on questions with three retrieved passages (`--data`, or the
demo's), against the authors' recipe: every sample padded to 800 tokens, and `full`. With a CUDA device,
a 7B-shaped Llama in bfloat16 is measured as well. The plot shows time and memory against context
length. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import circumstances, load
from matplotlib.figure import Figure
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from spring_integrations import RagPrompt, SpringTokens
from spring_integrations.demo.model import model_folder
from spring_integrations.retrieval.bm25 import BM25Index
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.training import TrainConfig, spring_loss, with_passages
from spring_integrations.training.methods import make_method
from spring_integrations.training.objective import EncodedExample, encode_example, full_loss

K = 25
VOCABULARY = 49_152
QUESTION, ANSWER = 20, 8
AUTHORS_LENGTH = 800

Step = Callable[[], Tensor]


@dataclasses.dataclass(frozen=True)
class Size:
    """What is measured."""

    layers: int
    width: int
    context: int
    lengths: tuple[int, ...]
    rounds: int
    batch: int


FULL = Size(layers=8, width=512, context=600, lengths=(150, 300, 600, 1200), rounds=7, batch=4)
QUICK = Size(layers=2, width=256, context=200, lengths=(100, 200), rounds=2, batch=2)


def llama(size: Size, **changes: Any) -> LlamaForCausalLM:
    """Returns a randomly initialised Llama with the demo model's vocabulary."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": size.width,
        "intermediate_size": size.width * 43 // 16,
        "num_hidden_layers": size.layers,
        "num_attention_heads": 8,
        "max_position_embeddings": 2048,
    }
    return LlamaForCausalLM(LlamaConfig(**settings | changes))


def tokenizer() -> Any:
    """Returns the demo model's tokenizer."""
    return AutoTokenizer.from_pretrained(model_folder())


class Trainable:
    """A backbone with a trainable table of K virtual tokens."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        for parameter in backbone.model.parameters():
            parameter.requires_grad_(False)
        first = backbone.attach(SpringTokens(torch.randn(K, backbone.width) * 0.02))
        self.ids = range(first, first + K)
        embedding: Any = backbone.model.get_input_embeddings()
        self.table = torch.nn.Parameter(embedding.table.to(backbone.model.device))
        embedding.table = self.table

    def ours(self, batch: list[EncodedExample]) -> Step:
        return lambda: spring_loss(self.backbone, batch, [self.ids])

    def full(self, batch: list[EncodedExample], length: int = 0) -> Step:
        """The loss as transformers computes it from labels; padded on the left, to at least `length`."""
        rows = [e.before + list(self.ids) + e.after for e in batch]
        length = max(length, *map(len, rows))
        ids = torch.tensor([[self.backbone.pad_id] * (length - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (length - len(r)) + [1] * len(r) for r in rows])
        labels = torch.full_like(ids, -100)
        for i, (row, example) in enumerate(zip(rows, batch, strict=True)):
            labels[i, -example.answer_length :] = torch.tensor(row[-example.answer_length :])
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
        inputs = {name: value.to(self.table.device) for name, value in (inputs | {"labels": labels}).items()}
        return lambda: self.backbone.model(**inputs, use_cache=False).loss

    def full_answer_head(self, batch: list[EncodedExample]) -> Step:
        return lambda: full_loss(self.backbone, batch, self.ids)

    def forward_only(self, batch: list[EncodedExample]) -> Step:
        def run() -> Tensor:
            with torch.no_grad():
                return full_loss(self.backbone, batch, self.ids)

        return run


def samples(context: int, batch: int) -> list[EncodedExample]:
    """Returns examples of random ids, all of one length."""
    rng = random.Random(0)
    draw = lambda count: [rng.randrange(10, VOCABULARY) for _ in range(count)]  # noqa: E731
    return [EncodedExample(draw(context), draw(QUESTION + ANSWER), ANSWER) for _ in range(batch)]


def step(compute: Step) -> float:
    """Runs a step; returns its seconds."""
    synchronize()
    began = time.perf_counter()
    loss = compute()
    if loss.requires_grad:
        loss.backward()
    synchronize()
    return time.perf_counter() - began


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Returns the median seconds of each step; they take turns, and the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):
        for name, compute in steps.items():
            taken = step(compute)
            if i:
                times[name].append(taken)
    return {name: statistics.median(values) for name, values in times.items()}


def activation_bytes(compute: Step, weights: set[int]) -> int:
    """Returns the bytes that autograd keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = compute()
    size = sum(kept.values())
    loss.backward()
    return size


def gradient(trainable: Trainable, compute: Step) -> Tensor:
    trainable.table.grad = None
    compute().backward()
    assert trainable.table.grad is not None
    return trainable.table.grad.clone()


def prompt_tuning(size: Size, batch: list[EncodedExample]) -> tuple[Step, set[int]]:
    """Returns a step of PEFT prompt-tuning on the same batch, and the storages of its weights."""
    method = make_method(Backbone(llama(size), tokenizer()), TrainConfig(method="prompt", n=K))
    items = sum(e.answer_length for e in batch)
    return lambda: method.loss(batch, (K,), items), storages(method.backbone.model)


def storages(model: torch.nn.Module) -> set[int]:
    return {p.untyped_storage().data_ptr() for p in model.parameters()}


def by_length(size: Size) -> dict[int, dict[str, dict[str, float]]]:
    """Returns seconds and activations of every peer for every context length."""
    rows = {}
    for context in size.lengths:
        trainable = Trainable(Backbone(llama(size), tokenizer()))
        batch = samples(context, size.batch)
        peft_step, peft_weights = prompt_tuning(size, batch)
        steps = {
            "ours": trainable.ours(batch),
            "full": trainable.full(batch),
            "full_answer_head": trainable.full_answer_head(batch),
            "prompt_tuning": peft_step,
        }
        timed = seconds(steps | {"forward": trainable.forward_only(batch)}, size.rounds)
        weights = storages(trainable.backbone.model) | peft_weights
        rows[context] = {
            "seconds": {name: round(value, 4) for name, value in timed.items()},
            "activations_mb": {name: round(activation_bytes(s, weights) / 1e6, 2) for name, s in steps.items()},
        }
        print(f"context {context}: {rows[context]}", flush=True)
    return rows


def gradient_error(size: Size) -> float:
    """Returns the relative difference of our token gradient from full back-propagation's, in float32."""
    trainable = Trainable(Backbone(llama(size), tokenizer()))
    batch = samples(size.context, 2)
    ours, full = (gradient(trainable, s) for s in (trainable.ours(batch), trainable.full(batch)))
    return float((ours - full).norm() / full.norm())


def ragged(size: Size, data: Path | None) -> float:
    """Returns how many times more answer tokens a second ours trains on ragged data."""
    trainable = Trainable(Backbone(llama(size), tokenizer()))
    passages, questions = load(data)
    questions = random.Random(0).sample(questions, size.rounds * size.batch)
    found = with_passages(questions, BM25Index.build(passages).search_many, 3)
    batches = []
    for start in range(0, size.rounds * size.batch, size.batch):
        chosen = found[start : start + size.batch]
        prompts = [RagPrompt.from_passages(e.passages, e.question) for e in chosen]
        encoded = [
            encode_example(trainable.backbone, p, e.targets[0], trainable.ids)
            for p, e in zip(prompts, chosen, strict=True)
        ]
        batches.append(encoded)
    times = {"ours": 0.0, "authors": 0.0}
    for i, batch in enumerate([batches[0], *batches]):  # the first round warms up
        for name, compute in (("ours", trainable.ours(batch)), ("authors", trainable.full(batch, AUTHORS_LENGTH))):
            times[name] += step(compute) * bool(i)
    return times["authors"] / times["ours"]  # the answer tokens are the same


def gpu(context: int = 600, batch: int = 8) -> dict[str, Any]:
    """Returns seconds, peak memory and the largest batch of a 7B-shaped Llama in bfloat16."""
    seven_b = {"intermediate_size": 11008, "num_attention_heads": 32}
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = llama(Size(32, 4096, context, (), 3, batch), **seven_b)
    torch.set_default_dtype(torch.float32)
    trainable = Trainable(Backbone(model, tokenizer()))
    figures: dict[str, Any] = {}
    for name, checkpointing in (("ours", False), ("full", False), ("full_checkpointed", True)):
        # Checkpointing runs only in training mode; a Llama has no dropout, so nothing else changes.
        model.train(checkpointing)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        peer = trainable.ours if name == "ours" else trainable.full
        figures[name] = measure_gpu(peer, context, batch)
        print(f"GPU, {name}: {figures[name]}", flush=True)
    return figures


def measure_gpu(peer: Callable[[list[EncodedExample]], Step], context: int, batch: int) -> dict[str, float | None]:
    """Returns seconds and peak memory at a batch size, and the largest power of two that fits."""
    torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated()
    figures: dict[str, float | None] = {}
    try:
        figures["seconds"] = seconds({"it": peer(samples(context, batch))}, 3)["it"]
        figures["peak_gb_above_weights"] = (torch.cuda.max_memory_allocated() - base) / 1e9
    except torch.OutOfMemoryError:
        figures["seconds"] = None
    largest = 0
    while largest < 1024:
        torch.cuda.empty_cache()
        try:
            step(peer(samples(context, 2 * largest or 1)))
        except torch.OutOfMemoryError:
            break
        largest = 2 * largest or 1
    return figures | {"largest_batch_power_of_two": largest}


def plot(rows: dict[int, dict[str, dict[str, float]]], path: Path) -> None:
    """Draws step time and activations against context length."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    names = {
        "ours": "ours",
        "full": "full back-propagation",
        "full_answer_head": "full, head at the answers",
        "prompt_tuning": "PEFT prompt-tuning",
        "forward": "forward pass alone",
    }
    panels = zip(
        figure.subplots(1, 2), ("seconds", "activations_mb"), ("seconds a step", "activations kept (MB)"), strict=True
    )
    for axes, quantity, label in panels:
        for name in rows[min(rows)][quantity]:
            axes.plot(list(rows), [row[quantity][name] for row in rows.values()], marker="o", label=names[name])
        axes.set(xlabel="context (tokens)", ylabel=label, ylim=(0, None))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measures, draws, and prints the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="questions with passages, JSON lines, gzipped; default: the demo's")
    parser.add_argument("--plot", type=Path, default=Path("training.png"), help="where to write the plot")
    parser.add_argument("--quick", action="store_true", help="a smaller model, under a minute")
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    rows = by_length(size)
    plot(rows, args.plot)
    timed, kept = rows[size.context]["seconds"], rows[size.context]["activations_mb"]
    figures: dict[str, Any] = {
        "step_vs_full": round(timed["ours"] / timed["full"], 3),
        "step_vs_full_answer_head": round(timed["ours"] / timed["full_answer_head"], 3),
        "step_vs_forward": round(timed["ours"] / timed["forward"], 3),
        "step_vs_prompt_tuning": round(timed["ours"] / timed["prompt_tuning"], 3),
        "activations_vs_full": round(kept["ours"] / kept["full"], 3),
        "activations_vs_full_answer_head": round(kept["ours"] / kept["full_answer_head"], 3),
        "grad_rel_err": gradient_error(size),
        "ragged_speedup": round(ragged(size, args.data), 2),
        "context_lengths": rows,
    }
    if torch.cuda.is_available():
        figures["gpu"] = gpu()
    print(json.dumps(figures | {"size": dataclasses.asdict(size)} | circumstances()))


if __name__ == "__main__":
    main()
