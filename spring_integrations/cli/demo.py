"""`spring-rag demo`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from spring_integrations._optional import require
from spring_integrations.cli.answers import folder_for, ingest, print_pieces
from spring_integrations.cli.app import DEMO, app, hide_loading_bars, out, shown
from spring_integrations.cli.progress import working

if TYPE_CHECKING:
    from spring_integrations.demo import Demo, DemoQuestion
    from spring_integrations.runtime.model import SpringModel

COLLECTION = "spring-demo"
EXTRA = "demo"
TOP = 3
STREAMED = 3
QUESTIONS = 16  # all of it then takes less than two minutes on two cores, also without AVX-512
MAX_NEW_TOKENS = 32
CONTEXT_SHOWN = 100
CHAIN = f"""\
retriever = store.as_retriever(search_kwargs={{"k": {TOP}}})
chain = RetrievalQA.from_chain_type(llm, retriever=retriever)
"""


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep the Chroma database in this folder.")] = None,
    questions: Annotated[int, typer.Option(min=1, help="Questions behind the table.")] = QUESTIONS,
) -> None:
    """Run a RAG chain over the demo's passages, with and without virtual tokens, side by side.

    The chain is LangChain's RetrievalQA as people write it, and one line of it is changed: the model. The table also
    has that chain with SPRING_PROMPT, the paper's prompt.
    """
    from spring_integrations.demo import load_demo
    from spring_integrations.retrieval import MiniLMEmbedder
    from spring_integrations.runtime.model import SpringModel

    started = time.perf_counter()
    vector_stores = require("langchain_chroma", extra=EXTRA)
    corpus = load_demo()
    hide_loading_bars()
    with working("Loading the model"):
        spring = SpringModel.from_pretrained(DEMO)
    with folder_for(keep) as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*RetrievalQA.*")  # LangChain's advice to use agents instead
        store = ingest(corpus.passages, folder, COLLECTION, MiniLMEmbedder())
        vectors = vector_stores.Chroma(store.name, store.embedder, client=store.client)
        stock, paper = _chains(spring, vectors.as_retriever(search_kwargs={"k": TOP}))
        _print_swap(spring)
        for number, question in enumerate(_spread(corpus, STREAMED)):
            _show(question, stock(0), stock(spring.k), picture=not number)
        asked = _spread(corpus, questions)
        rows = (("stock prompt", stock), ("SPRING_PROMPT", paper))
        runs = [_run(f"{name}, k = {k}", chain(k), asked) for name, chain in rows for k in (0, spring.k)]
    _print_runs(runs, f"{len(asked)} of the demo's {len(corpus.questions)} questions, {len(corpus.passages)} passages")
    out.print(f"All of it took {time.perf_counter() - started:.0f} s. Now ask your own text files:")
    out.print('  spring-rag ask "your question" --docs FILE_OR_FOLDER --compare')


@dataclass(frozen=True)
class _Run:
    """What one chain reached on the questions."""

    label: str
    scores: tuple[float, ...]
    seconds: float


def _spread(corpus: Demo, count: int) -> list[DemoQuestion]:
    """Returns so many questions, or all, from the whole of the corpus."""
    total = len(corpus.questions)
    count = min(count, total)
    return [corpus.questions[i * total // count] for i in range(count)]


def _chains(spring: SpringModel, retriever: Any) -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    """Returns what makes a chain of k: as people write it, and with the paper's prompt."""
    chain = require("langchain_classic.chains", extra=EXTRA).RetrievalQA.from_chain_type
    ours = require("spring_integrations.langchain", extra="langchain")

    def llm(k: int) -> Any:
        return ours.SpringHFLLM(model=spring, k=k, max_new_tokens=MAX_NEW_TOKENS)

    prompt = {"prompt": ours.SPRING_PROMPT}
    marked = ours.SpringRetriever(retriever=retriever)
    return (
        lambda k: chain(llm(k), retriever=retriever),
        lambda k: chain(llm(k), retriever=marked, chain_type_kwargs=prompt),
    )


def _steps(chain: Any) -> Any:
    """Returns a chain's prompt and model, which stream and take batches; RetrievalQA itself does neither."""
    stuff = require("langchain_classic.chains.combine_documents", extra=EXTRA).create_stuff_documents_chain
    step = chain.combine_documents_chain.llm_chain
    return stuff(step.llm, step.prompt)


def _run(label: str, chain: Any, questions: Sequence[DemoQuestion]) -> _Run:
    from spring_integrations.metrics import contains, exact_match, f1

    started = time.perf_counter()
    with working(f"{label}: answering {len(questions)} questions"):
        found = chain.retriever.batch([q.question for q in questions])
        inputs = [{"context": docs, "question": q.question} for docs, q in zip(found, questions, strict=True)]
        answers = _steps(chain).batch(inputs)
    seconds = time.perf_counter() - started
    pairs = [(answer, q.answers) for answer, q in zip(answers, questions, strict=True)]
    means = (sum(metric(*pair) for pair in pairs) / len(pairs) for metric in (exact_match, f1, contains))
    return _Run(label, tuple(means), seconds)


def _show(question: DemoQuestion, plain: Any, boosted: Any, *, picture: bool) -> None:
    """Streams the answers of both chains, and names their sources."""
    documents = plain.retriever.invoke(question.question)
    inputs = {"context": documents, "question": question.question}
    if picture:
        step = boosted.combine_documents_chain.llm_chain
        context = "\n\n".join(d.page_content for d in documents)
        out.print(
            _picture(step.prompt.format(context=context, question=question.question), step.llm.k), soft_wrap=False
        )
    out.print(f"\n{question.question}", style="bold")
    for chain in (plain, boosted):
        out.print(f"k = {chain.combine_documents_chain.llm_chain.llm.k}: ", end="", style="cyan")
        print_pieces(piece.replace("\n", " ") for piece in _steps(chain).stream(inputs))
    titles = ", ".join(f"[{i}] {d.metadata['title']}" for i, d in enumerate(documents, 1))
    out.print(f"sources: {shown(titles)}; expected: {question.answers[0]}", style="dim")


def _print_swap(spring: SpringModel) -> None:
    from spring_integrations.demo.model import HUB_ID

    out.print("\nA chain as people write it. One line changes:", style="bold")
    out.print(CHAIN, style="dim", end="")
    out.print(f'- llm = HuggingFacePipeline.from_model_id("{HUB_ID}", …)', style="red")
    out.print(f'+ llm = SpringHFLLM("{spring.name}")', style="green", end="")
    out.print(f"    # the same weights, and {spring.k} virtual tokens; k = 0 is the plain model", style="dim")


def _picture(prompt: str, k: int) -> Panel:
    """Draws where in a prompt the virtual tokens are put."""
    from spring_integrations.prompts import RagPrompt

    parsed = RagPrompt.parse(prompt)
    before, after = shown(parsed.before).strip(), shown(parsed.after).strip()
    if len(before) > 2 * CONTEXT_SHOWN:
        before = f"{before[:CONTEXT_SHOWN]} … {before[-CONTEXT_SHOWN:]}"
    drawing = Text(f"{before}\n\n", style="dim")
    drawing.append(" [v1][v2][v3] … ", style="reverse")
    drawing.append(f"[v{k}] ", style="reverse")
    drawing.append(f' {k} virtual tokens; this place was found by the rule "{parsed.boundary}"\n', style="green")
    drawing.append(after, style="bold")
    return Panel(drawing, title="What the model reads", title_align="left")


def _print_runs(runs: Sequence[_Run], what: str) -> None:
    table = Table("RetrievalQA", title=f"{what}, {TOP} retrieved", title_justify="left")
    for name in ("exact match %", "F1 %", "contains %", "seconds"):
        table.add_column(name, justify="right")
    for run in runs:
        figures = (*(100 * score for score in run.scores), run.seconds)
        table.add_row(run.label, *(f"{figure:.1f}" for figure in figures))
    out.print()
    out.print(table, soft_wrap=False)
