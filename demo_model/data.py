"""Training rows for the demo backbone: real questions, written questions, templates and cloze.

The mix is that of a small instruct model that was never shown the SPRING prompt: several prompt
layouts, several answer styles. A short answer is given where the prompt asks for one; without such a
request most answers are full sentences. The numbered layout of the official RAG template is left out.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import bm25s
import synthetic
from network import Row, padded_size
from transformers import PreTrainedTokenizerFast

MAX_CONTEXT = 380
MAX_BLOCKS = 16
MAX_BLOCK = 110
MAX_SHORT_WORDS = 7

SHORT = (
    "Reply with the answer only.",
    "Give only the answer, in a few words.",
    "Answer as briefly as possible.",
    "Copy the shortest span that answers the question.",
    "Answer with a name, a date or a short phrase.",
    "Keep the answer under five words.",
    "No sentences, just the answer.",
    "Give the exact answer from the text and nothing else.",
    "A short answer is expected.",
    "Answer with words from the text, as few as you can.",
)
SENTENCE = (
    "Answer in a full sentence.",
    "Explain your answer in one sentence.",
    "Give a complete sentence.",
    "Write a helpful, complete answer.",
    "Answer the user politely and completely.",
)
NEUTRAL = (
    "",
    "",
    "Here is some text.",
    "Read the following.",
    "Use the text below to help the user.",
    "You are a helpful assistant.",
    "The following documents may be useful.",
    "Context information is below.",
)
QUESTION_CUES = ("Question: {}", "Q: {}", "{}", "Query: {}", "User: {}", "The question is: {}")
ANSWER_CUES = ("Answer:", "A:", "Response:", "Assistant:", "Reply:", "The answer:")
SHORT_CUES = ("Short answer:", "In a few words:", "Answer (a few words):")
JOINS = ("{text}", "Passage {i}: {text}", "Document: {text}", "- {text}", "* * * {text}", "({i}) {text}")
GAP_WORDS = {"number": ("how many", "when", "what year", "what number"), "name": ("who", "what", "where", "which")}

# Rows of each kind: at the start of the training, and later.
EARLY_MIX = {"cloze": 0.40, "synthetic": 0.40, "new_wiki": 0.08, "written": 0.12}
LATE_MIX = {
    "new_wiki": 0.23,
    "written": 0.20,
    "reddit": 0.13,
    "amazon": 0.13,
    "policyqa": 0.05,
    "synthetic": 0.12,
    "cloze": 0.10,
    "continue": 0.03,
    "closed": 0.01,
}
EARLY_PART = 0.18
REQUESTS = ("short", "sentence", "nothing")
EARLY_REQUESTS = (0.9, 0.02, 0.08)
LATE_REQUESTS = (0.62, 0.10, 0.28)


@dataclass
class Question:
    text: str
    answer: str
    sentence: str


@dataclass
class Item:
    """A passage with its questions."""

    text: str
    title: str
    source: str
    questions: list[Question]
    neighbours: list[int] = field(default_factory=list)


def load_reading(folder: Path) -> list[Item]:
    """Reads `{question, answers, passage, title, source}` JSON lines, grouped by passage."""
    items: dict[str, Item] = {}
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                r = json.loads(line)
                source = r["source"].split("/")
                name = source[-1] if source[0] == "squadshifts" else source[0]
                item = items.setdefault(r["passage"], Item(r["passage"], r["title"], name, []))
                answer = min(r["answers"], key=lambda a: (len(a.split()), len(a))).strip(" .,;:")
                if answer and answer in r["passage"]:
                    sentence = _sentence_with(r["passage"], answer)
                    item.questions.append(Question(r["question"], answer, sentence))
    return [i for i in items.values() if i.questions]


def load_written(folder: Path) -> list[Item]:
    """Reads the passages and questions written for this model."""
    items = []
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]):
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as lines:
            items.extend(from_record(json.loads(line), "written") for line in filter(str.strip, lines))
    return items


def from_record(record: dict, source: str) -> Item:
    """Makes an item of a `{title, passage, qa: [{q, a, s}]}` record."""
    questions = [Question(x["q"], x["a"], x["s"]) for x in record["qa"]]
    return Item(record["passage"], record["title"], source, questions)


def held_out(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """Splits off whole titles: every 16th article of the encyclopaedic sources."""
    titles = sorted({i.title for i in items if i.source in ("new_wiki", "written")})
    kept = set(titles[::16])
    return [i for i in items if i.title not in kept], [i for i in items if i.title in kept]


def find_neighbours(items: list[Item], k: int = 8) -> None:
    """Notes for each passage the most similar others of its source (by BM25): the hard distractors."""
    for source in {i.source for i in items}:
        at = [n for n, i in enumerate(items) if i.source == source]
        index = bm25s.BM25()
        tokens = bm25s.tokenize([items[n].text for n in at], stopwords="en", show_progress=False)
        index.index(tokens, show_progress=False)
        found, _ = index.retrieve(tokens, k=min(k + 1, len(at)), show_progress=False)
        for n, row in zip(at, found, strict=True):
            items[n].neighbours = [at[j] for j in row if at[j] != n]


def _sentence_with(passage: str, answer: str) -> str:
    start = passage.index(answer)
    for match in re.finditer(r".+?(?:[.!?](?=\s+[A-Z\"“(])|$)", passage, re.S):
        if match.start() <= start < match.end():
            sentence = match.group().strip()
            return sentence if len(sentence.split()) <= 40 and answer in sentence else answer
    return answer


class Rows:
    """Makes training rows; the rows of a step depend on the seed and the step alone."""

    def __init__(self, items: list[Item], tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.items = items
        self.seed = seed
        self._tokenizer = tokenizer
        self._cache: dict[str, list[int]] = {}
        self._by_source: dict[str, list[Item]] = {}
        for item in items:
            self._by_source.setdefault(item.source, []).append(item)

    def step(self, step: int, progress: float, tokens: int) -> list[Row]:
        """Returns rows of about `tokens` tokens in all; `progress` in 0…1 chooses the mix."""
        rng = random.Random(f"{self.seed}/{step}")
        mix = EARLY_MIX if progress < EARLY_PART else LATE_MIX
        rows: list[Row] = []
        size = 0
        while size < tokens:
            kind = rng.choices(list(mix), list(mix.values()))[0]
            row = self._make(kind, rng, early=progress < EARLY_PART)
            if row is not None:
                rows.append(row)
                size += padded_size(row)
        return rows

    def _make(self, kind: str, rng: random.Random, *, early: bool) -> Row | None:
        if kind == "continue":
            return self._continuation(rng)
        if kind == "closed":
            item = rng.choice(self._by_source["written"])
            return self._row([], item.questions, rng, ("short", "short"))
        if kind == "cloze":
            item = rng.choice(self.items)
            count = 10 if early else 6
            questions = [q for q in (_cloze(item.text, rng) for _ in range(count)) if q]
            passages = [item] if early else self._with_distractors(item, rng, 0.5)
            return self._row([p.text for p in passages], questions, rng, ("short", "short"))
        if kind == "synthetic":
            group = synthetic.group(rng, rng.choice((1, 2, 3, 3, 4) if not early else (1, 1, 2)))
            passages = [from_record(r, "synthetic") for r in group]
        else:
            item = rng.choice(self._by_source[kind])
            single = 0.4 if kind in ("new_wiki", "written") else 0.6
            passages = [item] if early else self._with_distractors(item, rng, single)
        questions = [q for p in passages for q in p.questions]
        return self._row([p.text for p in passages], questions, rng, _draw_style(rng, early=early))

    def _with_distractors(self, item: Item, rng: random.Random, single: float) -> list[Item]:
        if rng.random() < single:
            return [item]
        passages = [item]
        for _ in range(rng.choice((1, 2, 2))):
            if item.source in ("new_wiki", "written") and rng.random() < 0.7:
                other = self.items[rng.choice(item.neighbours)]
            else:
                other = rng.choice(self._by_source[rng.choice(("new_wiki", "written"))])
            if all(other.text != p.text for p in passages):
                passages.append(other)
        rng.shuffle(passages)
        return passages

    def _ids(self, text: str) -> list[int]:
        ids = self._cache.get(text)
        if ids is None:
            ids = self._tokenizer(text, add_special_tokens=False).input_ids
            if len(self._cache) < 200_000:
                self._cache[text] = ids
        return ids

    def _continuation(self, rng: random.Random) -> Row:
        item = rng.choice(self.items)
        context = [self._tokenizer.bos_token_id, *self._ids(item.text)[:MAX_CONTEXT]]
        context.append(self._tokenizer.eos_token_id)
        return Row(context, context, [], [], weight=0.1)

    def _row(
        self, texts: list[str], questions: list[Question], rng: random.Random, style: tuple[str, str]
    ) -> Row | None:
        request, kind = style
        layout = _Layout.draw(rng, request)
        context = [self._tokenizer.bos_token_id]
        if layout.before:
            context += self._ids(layout.before)
        kept = []
        for i, text in enumerate(texts, 1):
            ids = self._ids(layout.join.format(text="", i=i).strip()) + self._ids(text)
            if kept and len(context) + len(ids) > MAX_CONTEXT:
                continue
            context += ids[:MAX_CONTEXT]
            kept.append(text)
        asked = [q for q in questions if not texts or any(q.answer in t for t in kept)]
        rng.shuffle(asked)
        blocks, labels = [], []
        for q in asked:
            answer = q.answer if kind == "short" else q.sentence
            if kind == "short" and len(answer.split()) > MAX_SHORT_WORDS:
                continue
            prompt = self._ids(layout.inside) if layout.inside else []
            prompt = prompt + self._ids(layout.question.format(_noisy(q.text, rng)))
            prompt = prompt + self._ids(layout.answer)
            target = [*self._ids(answer), self._tokenizer.eos_token_id]
            if len(prompt) + len(target) <= MAX_BLOCK:
                blocks.append(prompt + target)
                labels.append([-100] * len(prompt) + target)
            if len(blocks) == MAX_BLOCKS:
                break
        if not blocks:
            return None
        return Row(context, None, blocks, labels, weight=1.0 if kind == "short" else 0.3)


@dataclass(frozen=True)
class _Layout:
    """How one row writes its prompt."""

    before: str
    inside: str
    question: str
    answer: str
    join: str

    @staticmethod
    def draw(rng: random.Random, request: str) -> _Layout:
        """Draws a layout that asks for a "short" answer, for a "sentence" or for "nothing" special."""
        before, inside, answer = rng.choice(NEUTRAL), "", rng.choice(ANSWER_CUES)
        join = rng.choice(JOINS) if rng.random() < 0.5 else JOINS[0]
        question = rng.choice(QUESTION_CUES)
        place = rng.random()
        cue = rng.choice(SHORT if request == "short" else SENTENCE)
        if request == "nothing":
            pass
        elif request == "short" and place < 0.2:
            answer = rng.choice(SHORT_CUES)
        elif place < 0.45:
            before = cue
        elif place < 0.8:
            inside = cue
        else:
            question = question + " " + cue
        return _Layout(before, inside, question, answer, join)


def _draw_style(rng: random.Random, *, early: bool) -> tuple[str, str]:
    """Returns (what the prompt asks for, what the answer is): unasked, sentences are more frequent."""
    request = rng.choices(REQUESTS, EARLY_REQUESTS if early else LATE_REQUESTS)[0]
    if request != "nothing":
        return request, request
    return request, "sentence" if rng.random() < 0.6 else "short"


def _noisy(question: str, rng: random.Random) -> str:
    """Drops the question mark half the time and a word now and then, as users do."""
    if rng.random() < 0.5:
        question = question.rstrip("? ")
    words = question.split()
    if len(words) > 5 and rng.random() < 0.25:
        del words[rng.randrange(1, len(words))]
    return " ".join(words)


_SPAN = re.compile(
    r"\d[\d,.]*(?:st|nd|rd|th)?(?: (?:million|billion|percent|January|February|March|April|May|June|July|August"
    r"|September|October|November|December)(?: \d{4})?)?|(?:[A-Z][\w'’.-]+)(?: (?:of |the |de )?[A-Z][\w'’.-]+){0,3}"
)


def _cloze(passage: str, rng: random.Random) -> Question | None:
    """Returns a question whose answer is a gap in the passage: a number, a name or a few words."""
    names = [m for m in _SPAN.finditer(passage) if len(m.group()) > 1]
    if names and rng.random() < 0.75:
        match = rng.choice(names)
        start, end = match.span()
        kind = "number" if passage[start].isdigit() else "name"
    else:
        words = list(re.finditer(r"\S+", passage))
        first = rng.randrange(len(words))
        last = min(first + rng.randrange(3), len(words) - 1)
        start, end = words[first].start(), words[last].end()
        kind = "name"
    answer = passage[start:end].strip(' .,;:!?"()')
    if not answer:
        return None
    left = passage[:start].split()[-rng.randrange(3, 9) :]
    right = passage[end:].split()[: rng.randrange(2, 8)]
    if not left and not right:
        return None
    gap = rng.choice(GAP_WORDS[kind])
    if rng.random() < 0.3:
        rest = [w for w in left + right if rng.random() > 0.2]
        return Question(" ".join([gap, *rest]), answer, answer)
    return Question(" ".join([*left, gap, *right]), answer, answer)


def batches(rows: Callable[[int], list[Row]], start: int, stop: int) -> Iterable[tuple[int, list[Row]]]:
    """Yields (step, rows), made one step ahead in a thread."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(rows, start)
        for step in range(start, stop):
            now = ahead.result()
            if step + 1 < stop:
                ahead = pool.submit(rows, step + 1)
            yield step, now
