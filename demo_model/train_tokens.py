"""Trains the demo backbone's virtual tokens with `spring_integrations.training`.

    python demo_model/train_tokens.py --reading FOLDER --backbone FOLDER --out FOLDER

The questions are ones the backbone was not trained on: passages written for this step, the articles
that its training held out, and freshly drawn templates. For each question BM25 retrieves passages
from the same collection; where it misses the right one, that takes the last place. Every eighth
article is held out for validation. `train.jsonl` and `validation.jsonl` in the output folder are in
the authors' format, so any method can be trained on them with `spring-rag train`.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
from pathlib import Path

import synthetic
from data import Item, from_record, held_out, load_reading, load_written

from spring_integrations.backbone import DEMO_ID, Backbone
from spring_integrations.passages import Passage
from spring_integrations.retrieval.bm25 import BM25Index
from spring_integrations.tokens import FILE_NAME, SpringTokens
from spring_integrations.training import Example, ExampleFiles, TrainConfig, train

log = logging.getLogger("train_tokens")
DATA = Path(__file__).parent / "data"
PASSAGES = 3
MAX_PASSAGE_WORDS = 110  # three of them fit the window
MAX_ANSWER_WORDS = 6
HELD_OUT = 8


def retrieved(items: list[Item], distractors: list[Item]) -> list[Example]:
    """Returns examples whose passages come from BM25 over the items and the distractors."""
    texts = list(dict.fromkeys(_shortened(i.text) for i in [*items, *distractors]))
    index = BM25Index.build([Passage(t) for t in texts])
    asked = [
        (question, text)
        for item in items
        for text in [_shortened(item.text)]
        for question in item.questions
        if len(question.answer.split()) <= MAX_ANSWER_WORDS and question.answer in text
    ]
    found = index.search_many([q.text for q, _ in asked], PASSAGES)
    examples = []
    for (question, gold), passages in zip(asked, found, strict=True):
        texts = [p.text for p in passages]
        if gold not in texts:
            texts[-1] = gold
        examples.append(Example(question.text.rstrip("?"), (question.answer,), tuple(texts)))
    return examples


def _shortened(text: str) -> str:
    return " ".join(text.split()[:MAX_PASSAGE_WORDS])


def templates(count: int, seed: int) -> list[Example]:
    """Returns examples of freshly drawn template passages of one kind."""
    rng = random.Random(seed)
    examples: list[Example] = []
    while len(examples) < count:
        group = [from_record(r, "synthetic") for r in synthetic.group(rng, PASSAGES)]
        for item in group:
            question = rng.choice(item.questions)
            examples.append(Example(question.text, (question.answer,), tuple(i.text for i in group)))
    return examples


def write(examples: list[Example], path: Path) -> Path:
    """Writes examples in the authors' format."""
    lines = (json.dumps(e.as_record(), ensure_ascii=False) for e in examples)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reading", type=Path, required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--templates", type=int, default=600)
    parser.add_argument("--validation", type=int, default=200, help="questions of the validation")
    parser.add_argument("--data-only", action="store_true", help="write the examples, train nothing")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    trained_on, unseen = held_out(load_reading(args.reading) + load_written(DATA / "backbone"))
    fresh = load_written(DATA / "tokens")
    wiki = [i for i in trained_on if i.source in ("new_wiki", "written")]
    items = [*fresh, *unseen]
    kept = [item for i, item in enumerate(items) if i % HELD_OUT]
    args.out.mkdir(parents=True, exist_ok=True)
    examples = retrieved(kept, wiki + items[::HELD_OUT]) + templates(args.templates, seed=77)
    data = write(examples, args.out / "train.jsonl")
    validation = write(retrieved(items[::HELD_OUT], wiki + kept)[: args.validation], args.out / "validation.jsonl")
    log.info("%d examples", len(examples))
    if args.data_only:
        return
    config = TrainConfig(
        learning_rate=args.lr, epochs=args.epochs, batch_size=args.batch, num_passages=PASSAGES, save_steps=100
    )
    backbone = Backbone.load(args.backbone)
    result = train(backbone, ExampleFiles([data]), config, args.out, validation=ExampleFiles([validation]))
    tokens = SpringTokens.load(result.path).with_metadata(backbone=DEMO_ID, license="Apache-2.0")
    log.info("wrote %s to %s: %s", tokens, tokens.save(args.out / FILE_NAME), result.metrics)


if __name__ == "__main__":
    main()
