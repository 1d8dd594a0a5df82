"""The parts of the page, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spring_integrations.playground import pictures
from spring_integrations.playground.corpora import Corpus
from spring_integrations.playground.session import Choice

MOST_PASSAGES = 10
_READABLE = (
    "Documents (.txt .md .html .pdf) or dumps of passages (.jsonl .csv .tsv). They stay where the playground runs."
)


@dataclass(frozen=True)
class Centre:
    """The question, its answers, and what stands behind them."""

    question: Any
    ask: Any
    stop: Any
    alert: Any
    status: Any
    results: Any
    answers: Any
    k: Any
    several: Any
    by_k: Any
    origin: Any
    passages: Any
    prompt: Any

    @property
    def shown(self) -> list[Any]:
        """What shows a turn."""
        turn = [self.answers, self.by_k, self.origin, self.passages, self.prompt]
        return [self.alert, self.status, self.results, *turn]


@dataclass(frozen=True)
class Left:
    """The documents, and what they are asked with."""

    source: Any
    files: Any
    shared: Any
    choice: tuple[Any, ...]


@dataclass(frozen=True)
class Right:
    """The history."""

    kept: Any
    history: Any
    rating: Any
    up: Any
    down: Any
    correction: Any
    export: Any


@dataclass(frozen=True)
class Parts:
    """All parts of the page, and the number of the question that is shown; -1 is none."""

    centre: Centre
    left: Left
    right: Right
    number: Any


def centre(gr: Any, n: int, examples: Sequence[str]) -> Centre:
    """Lays out the middle.

    Args:
        gr: Gradio.
        n: virtual tokens of the model that is chosen at first.
        examples: questions that are offered.
    """
    place = "Ask about the documents; Enter asks"
    with gr.Group():
        question = gr.Textbox(label="Question", placeholder=place, autofocus=True, max_lines=4)
    with gr.Row():
        ask = gr.Button("Ask", variant="primary", elem_id="sr-ask", min_width=120)
        stop = gr.Button("Stop", elem_id="sr-stop", scale=0, min_width=100, interactive=False)
    if examples:
        gr.Examples([[text] for text in examples], question, label="Questions on the demo's passages")
    alert = gr.HTML(visible=False, elem_id="sr-alert")
    status = gr.HTML(pictures.NOTHING_ASKED, elem_id="sr-status")
    with gr.Column(visible=False) as results:
        answers = gr.HTML()
        label = "k, the number of virtual tokens"
        k = gr.Slider(0, max(n, 1), value=n, step=1, label=label, interactive=n > 0, elem_id="sr-k")
        several = gr.Button("Answer with several k", size="sm", elem_id="sr-several")
        by_k = gr.HTML(elem_id="sr-by-k")
        with gr.Accordion("Where the answer comes from"):
            origin = gr.HTML(elem_id="sr-origin")
        with gr.Accordion("Passages found"):
            passages = gr.HTML(elem_id="sr-passages")
        with gr.Accordion("The prompt as the model sees it"):
            prompt = gr.HTML(elem_id="sr-prompt")
    return Centre(question, ask, stop, alert, status, results, answers, k, several, by_k, origin, passages, prompt)


def left(gr: Any, corpus: Corpus, choice: Choice) -> Left:
    """Lays out the documents and the choice.

    Args:
        gr: Gradio.
        corpus: what is asked at first.
        choice: what stands in the controls at first.
    """
    gr.Markdown("### Documents")
    source = gr.HTML(pictures.source(corpus), elem_id="sr-source")
    files = gr.File(label="Your files", file_count="multiple", height=130, elem_id="sr-files")
    gr.HTML(f'<p class="sr-hint">{_READABLE}</p>')
    shared = gr.Button(f"Back to: {corpus.name}", size="sm", elem_id="sr-shared")
    retriever = gr.Radio(list(corpus.retrievers), value=choice.retriever, label="Retriever", elem_id="sr-retriever")
    top = gr.Slider(1, MOST_PASSAGES, value=choice.top, step=1, label="Passages to find", elem_id="sr-top")
    with gr.Accordion("Model and tokens", open=False):
        model = gr.Textbox(choice.model, label="Model", info="A folder, a hub id, or demo.", elem_id="sr-model")
        hint = "A file or a hub id; demo brings its own."
        tokens = gr.Textbox(choice.tokens, label="Virtual tokens", info=hint, elem_id="sr-tokens")
        longest = gr.Slider(8, 256, value=choice.max_new_tokens, step=8, label="Longest answer, in tokens")
    return Left(source, files, shared, (model, tokens, retriever, top, longest))


def right(gr: Any) -> Right:
    """Lays out the history."""
    gr.Markdown("### History")
    kept = gr.HTML(pictures.kept(0, 0), elem_id="sr-kept")
    history = gr.Radio([], show_label=False, container=False, visible=False, elem_id="sr-history")
    with gr.Column(visible=False) as rating:
        gr.Markdown("Is the answer with virtual tokens right?")
        with gr.Row():
            up = gr.Button("✓ Right", size="sm", min_width=90, elem_id="sr-up")
            down = gr.Button("✗ Wrong", size="sm", min_width=90, elem_id="sr-down")
        correction = gr.Textbox(label="The right answer, if it is another", elem_id="sr-correction", max_lines=3)
    export = gr.DownloadButton("Export for training (JSON Lines)", interactive=False, size="sm", elem_id="sr-export")
    return Right(kept, history, rating, up, down, correction, export)
