"""HTML of what a turn holds. All text is escaped: neither passages nor answers are ours."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from spring_integrations.passages import Passage
from spring_integrations.playground.corpora import Corpus
from spring_integrations.playground.origin import Origin
from spring_integrations.playground.session import Reply, Turn
from spring_integrations.prompts.marks import remove_marks

HUES = 8
"""Colours of passages in the style sheet; further passages start again."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_FIRST, _LAST = 6, 2
_LONG_PASSAGE = 320
_CONTEXT_END = 240
_DOING = {
    "loading": "Loading the model …",
    "searching": "Searching …",
    "answering": "Answering …",
    "tracing": "Tracing the answer to its passages …",
}


def shown(text: str) -> str:
    """Returns text as HTML, without control characters and invisible marks."""
    return html.escape(_CONTROL.sub("", remove_marks(text)))


def notice(kind: str, title: str, text: str) -> str:
    """Returns a box with a message.

    Args:
        kind: "error", "empty" or "note".
        title: in a few words.
        text: what happened, and what to do.
    """
    role = "alert" if kind == "error" else "status"
    return f'<div class="sr-notice sr-{kind}" role="{role}"><strong>{shown(title)}</strong><p>{shown(text)}</p></div>'


_NO_TOKENS = notice(
    "empty", "No virtual tokens", "The model was loaded without them; name their file under Model and tokens."
)

NOTHING_ASKED = notice(
    "empty",
    "Ask a question",
    "Two answers will stand here side by side: from the plain model, and with virtual tokens between the passages "
    "found and your question. Try one of the examples, or choose your own files.",
)


def source(corpus: Corpus) -> str:
    """Returns what is asked now."""
    size = "an index" if corpus.size is None else f"{corpus.size:,} passage{'' if corpus.size == 1 else 's'}"
    return notice("note", corpus.name, f"{size}, searched for every question")


def reading(done: int, of: int) -> str:
    """Returns how far the reading of files is."""
    text = f"Embedding passages: {done:,} of {of:,} …" if of else "Reading …"
    return f'<div class="sr-notice sr-empty" role="status"><p class="sr-busy">{text}</p></div>'


def kept(right: int, asked: int) -> str:
    """Returns how many questions were asked, and how many of them can be exported."""
    if not asked:
        text = "They will be listed here. Say which answers are right, and export them."
        return notice("empty", "No questions yet", text)
    return notice("note", "For training", f"{right} of {asked} questions have a right answer.")


def status(turn: Turn) -> str:
    """Returns the line that says what goes on."""
    if turn.stage == "done":
        total = sum(reply.seconds for reply in turn.replies.values())
        return f'<p class="sr-status" role="status">{shown(turn.corpus)}, answered in {total:.1f} s</p>'
    return f'<p class="sr-status sr-busy" role="status">{_DOING[turn.stage]}</p>'


def answers(turn: Turn) -> str:
    """Returns the plain answer, and beside it the one with k tokens, or why there is none."""
    second = answer(turn, turn.k) if turn.n else _NO_TOKENS
    return f'<div class="sr-answers"><div>{answer(turn, 0)}</div><div>{second}</div></div>'


def answer(turn: Turn, k: int) -> str:
    """Returns an answer with its facts, or what is waited for."""
    name = f"With {k} virtual token{'' if k == 1 else 's'}" if k else "Plain, no virtual tokens"
    reply = turn.replies.get(k)
    if reply is None:
        body = '<p class="sr-waiting">waits for its turn …</p>'
    elif reply.done is None:
        body = f'<p class="sr-answer sr-typing">{shown(reply.text.lstrip())}</p>'
    elif reply.text.strip():
        body = f'<p class="sr-answer">{shown(reply.text.strip())}</p>{_facts(reply)}'
    else:
        body = f'<p class="sr-waiting">(no answer: the model ended at once)</p>{_facts(reply)}'
    return f'<section class="sr-card" aria-label="{name}"><h3>{name}</h3>{body}</section>'


def answers_by_k(turn: Turn) -> str:
    """Returns a table of the answers that are there, by k."""
    rows = "".join(
        f'<tr{" class=sr-chosen" if k == turn.k else ""}><th scope="row">k = {k}</th>'
        f"<td>{shown(reply.text.strip()) or ('(no answer)' if reply.done else '…')}</td></tr>"
        for k, reply in sorted(turn.replies.items())
    )
    return f'<table class="sr-table"><caption>Answers by k</caption>{rows}</table>'


def passages(turn: Turn) -> str:
    """Returns the passages found, with their scores and their share in the answer."""
    if not turn.passages:
        return ""
    origin = turn.origins.get(turn.k)
    cards = (_passage(i, passage, origin, turn) for i, passage in enumerate(turn.passages))
    return f'<ol class="sr-passages" aria-label="Passages found">{"".join(cards)}</ol>'


def origin(turn: Turn) -> str:
    """Returns the answer with k tokens, its words in the colours of the passages that they come from."""
    found = turn.origins.get(turn.k)
    if found is None:
        text = _DOING["tracing"] if turn.stage != "done" else "An empty answer comes from no passage."
        return f'<p class="sr-waiting">{text}</p>'
    words = "".join(
        f'<span class="sr-word sr-hue{word.best % HUES}" style="--share:{max(word.shares):.2f}" '
        f'title="{_shares(word.shares)}">{shown(word.text)}<sup>{word.best + 1}</sup></span>'
        for word in found.words
    )
    return (
        f'<p class="sr-origin">{words}</p><p class="sr-hint">The small number is the passage that a word most likely '
        "comes from, the colour is that passage’s; the stronger, the surer (RAG-Token posterior: each passage read in "
        "a prompt of its own).</p>"
    )


def prompt(turn: Turn) -> str:
    """Returns the prompt as the model sees it, with the virtual tokens at the boundary."""
    if turn.prompt is None:
        return ""
    tokens = _tokens(turn.k)
    return (
        f'<pre class="sr-prompt" tabindex="0" aria-label="Prompt">{_context(turn.prompt.before)}{tokens}'
        f"<b>{shown(turn.prompt.after)}</b></pre>"
    )


def history(turn: Turn, number: int) -> str:
    """Returns the line of a turn in the history, as plain text."""
    sign = {"up": " ✓", "down": " ✗", None: ""}[turn.thumb] + (" ✎" if turn.correction else "")
    question = turn.question if len(turn.question) <= 60 else f"{turn.question[:59]}…"
    return f"{number + 1}. {question}{sign}"


def _facts(reply: Reply) -> str:
    if reply.done is None:
        return ""
    done = reply.done
    facts = [f"{done.prompt_tokens} prompt tokens", f"{done.completion_tokens} answer tokens", f"{reply.seconds:.1f} s"]
    if done.dropped_passages:
        facts.append(f"{done.dropped_passages} passages left out, too long")
    if done.finish_reason == "length":
        facts.append("cut at the longest answer")
    return f'<p class="sr-facts">{", ".join(facts)}</p>'


def _passage(i: int, passage: Passage, found: Origin | None, turn: Turn) -> str:
    source = str(passage.metadata.get("source", ""))
    part = passage.metadata.get("page") or passage.metadata.get("part")
    place = f"{source}, {'page' if 'page' in passage.metadata else 'part'} {part}" if source and part else source
    kept = turn.prompt is None or i < len(turn.prompt.passage_ends)
    share = "" if found is None else _bar(found.shares[i], i)
    score = "" if passage.score is None else f"score {passage.score:.3f}"
    facts = " · ".join(part for part in (score, shown(place), "" if kept else "left out, too long") if part)
    return (
        f'<li class="sr-passage sr-edge{i % HUES}"><h4>[{i + 1}] {shown(passage.title) or "Untitled"}</h4>'
        f'<p class="sr-facts">{facts}</p>{_folded(passage.text)}<p class="sr-facts">{share}</p></li>'
    )


def _bar(share: float, i: int) -> str:
    text = f"{share:.0%} of the answer"
    return f'<span class="sr-bar"><i class="sr-hue{i % HUES}" style="width:{share:.0%}"></i></span> {text}'


def _folded(text: str) -> str:
    if len(text) <= _LONG_PASSAGE:
        return f"<p>{shown(text)}</p>"
    cut = text.rfind(" ", 0, _LONG_PASSAGE)
    cut = cut if cut > 0 else _LONG_PASSAGE
    return f"<details><summary>{shown(text[:cut])} …</summary><p>{shown(text[cut:].lstrip())}</p></details>"


def _context(text: str) -> str:
    """Returns a context whose middle is folded, so that the boundary is in sight."""
    if len(text) <= 3 * _CONTEXT_END:
        return shown(text)
    first, last = text.find("\n", _CONTEXT_END), text.rfind("\n", 0, -_CONTEXT_END)
    first = first if 0 < first < last else _CONTEXT_END
    last = max(last, first)
    middle = text[first:last]
    fold = f"<details><summary>… {len(middle):,} more characters …</summary>{shown(middle.strip())}</details>"
    return shown(text[:first]) + fold + shown(text[last:].lstrip("\n"))


def _tokens(k: int) -> str:
    if not k:
        return '<span class="sr-none">no virtual tokens</span>\n'
    numbers: Iterable[int | None] = range(1, k + 1)
    if k > _FIRST + _LAST + 1:
        numbers = (*range(1, _FIRST + 1), None, *range(k - _LAST + 1, k + 1))
    drawn = "".join("<i>…</i>" if i is None else f"<i>v{i}</i>" for i in numbers)
    label = f"{k} virtual token{'' if k == 1 else 's'}"
    return f'<span class="sr-virtual" role="img" aria-label="{label}">{drawn}</span><em>{label}</em>\n'


def _shares(shares: Sequence[float]) -> str:
    return ", ".join(f"[{i}] {share:.0%}" for i, share in enumerate(shares, 1))
