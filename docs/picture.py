"""Draws assets/spring.svg: where the virtual tokens go, and what is frozen.

python docs/picture.py
"""

from __future__ import annotations

from pathlib import Path

TARGET = Path(__file__).parent / "assets" / "spring.svg"
WIDTH, HEIGHT = 900, 396
INK, PAPER, SOFT = "#1f2933", "#ffffff", "#52606d"
CONTEXT, TOKENS, QUESTION, FROZEN = "#d9e8f6", "#f9a03f", "#d8efdf", "#e4e7eb"
PASSAGES = ("[1] first passage", "[2] second passage", "[3] third passage")
VIRTUAL = ("v1", "v2", "…", "vk")
TOP, ROW = 118, 46  # y and height of the prompt


def box(x: int, y: int, width: int, height: int, fill: str, label: str, *, size: int = 15) -> str:
    """Returns a rounded box with a label in its middle."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{INK}"/>' + text(
        x + width // 2, y + height // 2 + size // 3, label, size=size
    )


def text(x: int, y: int, words: str, *, size: int = 15, colour: str = INK, weight: str = "normal") -> str:
    """Returns a centred line of text."""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" font-weight="{weight}">{words}</text>'


def arrow(x1: int, y1: int, x2: int, y2: int, *, colour: str = INK, dashes: str = "none") -> str:
    """Returns an arrow."""
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="1.8" '
        f'stroke-dasharray="{dashes}" marker-end="url(#tip)"/>'
    )


def lock(x: int, y: int) -> str:
    """Returns a padlock: what it is beside is frozen."""
    return (
        f'<path d="M{x + 3} {y + 9}v-4a5 5 0 0 1 10 0v4" fill="none" stroke="{INK}" stroke-width="2"/>'
        f'<rect x="{x}" y="{y + 9}" width="16" height="12" rx="2" fill="{INK}"/>'
    )


def drawing() -> str:
    """Returns the picture as SVG."""
    parts: list[str] = []
    x = 24
    for passage in PASSAGES:
        parts.append(box(x, TOP, 146, ROW, CONTEXT, passage, size=14))
        x += 150
    context_end = x - 4
    tokens_start = x + 8
    x = tokens_start
    for name in VIRTUAL:
        parts.append(box(x, TOP, 38, ROW, TOKENS, name))
        x += 42
    tokens_end = x - 4
    question_start = x + 8
    question_width = WIDTH - 24 - question_start
    parts.append(box(question_start, TOP, question_width, ROW, QUESTION, "Question: … Answer:"))

    tokens_middle = (tokens_start + tokens_end) // 2
    context_middle = (24 + context_end) // 2
    question_middle = question_start + question_width // 2
    parts += [
        text(context_middle, TOP - 14, "retrieved context", colour=SOFT),
        text(question_middle, TOP - 14, "question", colour=SOFT),
        box(
            tokens_start - 96,
            20,
            tokens_end - tokens_start + 192,
            40,
            TOKENS,
            "table of n trained vectors: all that is trained",
        ),
        arrow(tokens_middle, 64, tokens_middle, TOP - 10),
        text(tokens_middle + 46, 92, "the first k", size=14, colour=SOFT),
        text(context_middle, TOP + ROW + 20, "cached once, for any question and any k", size=13, colour=SOFT),
    ]

    model, height = TOP + ROW + 66, 64
    for middle, gap in ((context_middle, 28), (tokens_middle, 6), (question_middle, 6)):
        parts.append(arrow(middle, TOP + ROW + gap, middle, model - 8))
    parts += [
        box(24, model, WIDTH - 48, height, FROZEN, ""),
        lock(48, model + 20),
        text(WIDTH // 2, model + 28, "language model: no weight is changed", weight="bold"),
        text(WIDTH // 2, model + 49, "k = 0, or no boundary in the prompt: the plain model, bit for bit", size=14),
        arrow(question_middle, model + height + 4, question_middle, model + height + 34),
        box(question_start, model + height + 42, question_width, 40, PAPER, "answer"),
    ]
    body = "\n  ".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" \
font-family="Helvetica, Arial, sans-serif" text-anchor="middle">
  <title>SPRING: k virtual tokens stand between the retrieved context and the question; the model is frozen</title>
  <defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">\
<path d="M0 0L8 4L0 8z" fill="{INK}"/></marker></defs>
  <rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="{PAPER}"/>
  {body}
</svg>
"""


if __name__ == "__main__":
    TARGET.write_text(drawing(), encoding="utf-8")
