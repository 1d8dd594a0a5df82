"""The page: its parts in three columns, and its looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spring_integrations._optional import require
from spring_integrations.playground import parts
from spring_integrations.playground.corpora import Corpus
from spring_integrations.playground.handlers import Handlers
from spring_integrations.playground.session import Choice
from spring_integrations.playground.visitors import Visitors

STYLE = Path(__file__).with_name("style.css")
TITLE = "SPRING playground"
_UPLOADS_KEPT = (3600, 86400)  # seconds: how often old ones are looked for, and how old they are
_HEAD = f"""<h1>{TITLE}</h1>
<p>The same model answers without and with virtual tokens between context and question.</p>
<nav><a href="#sr-source">Documents</a> <a href="#sr-kept">History</a></nav>"""


def build(visitors: Visitors, corpus: Corpus, choice: Choice, n: int, examples: Sequence[str]) -> Any:
    """Returns the page as a `gradio.Blocks`.

    Args:
        visitors: their sessions.
        corpus: what a visitor asks at first.
        choice: what stands in the controls at first.
        n: virtual tokens of the model that is chosen at first.
        examples: questions that are offered.

    Raises:
        MissingExtraError: if Gradio is not installed.
    """
    gr = require("gradio", extra="playground")
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=_UPLOADS_KEPT) as page:
        number = gr.State(-1)
        gr.HTML(_HEAD, elem_classes="sr-head")
        # The question comes first for the keyboard and on narrow screens; the style sheet puts it in the middle.
        with gr.Row(elem_classes="sr-columns"):
            with gr.Column(scale=6, min_width=300):
                centre = parts.centre(gr, n, examples)
            with gr.Column(scale=3, min_width=250, elem_classes="sr-left"):
                left = parts.left(gr, corpus, choice)
            with gr.Column(scale=3, min_width=250):
                right = parts.right(gr)
        Handlers(gr, parts.Parts(centre, left, right, number), visitors).listen(page)
    return page


def theme() -> Any:
    """Returns colours and fonts; the fonts are the visitor's own, and none is fetched."""
    gr = require("gradio", extra="playground")
    fonts = ("system-ui", "sans-serif")
    return gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=("ui-monospace", "monospace"))
