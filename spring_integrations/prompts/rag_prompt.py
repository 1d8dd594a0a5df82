"""Where the virtual tokens go: the boundary between retrieved context and question. Text only.

A boundary is found by, in this order: the user's own rule, the stock prompts of LangChain and
LlamaIndex, and the mark that our retriever adapters leave at the end of every passage. A prompt
without any of them is not a RAG prompt and gets no virtual tokens.
"""

from __future__ import annotations

import bisect
import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from spring_integrations._once import Once
from spring_integrations.errors import BoundaryError
from spring_integrations.passages import Passage
from spring_integrations.prompts.arguments import check_passages, check_question
from spring_integrations.prompts.marks import BOUNDARY, MARK, START, read_marks
from spring_integrations.prompts.neutralize import neutralize
from spring_integrations.prompts.rules import QUESTION_STARTS, STOCK_RULES, BoundaryRule
from spring_integrations.text import storable

log = logging.getLogger(__name__)
OnMissingBoundary = Literal["once", "ignore", "warn", "error"]
OFFICIAL_TEMPLATE = "[i] passage\n … \n\n<virtual tokens>Question: question\nAnswer:"
"""Prompt of the paper's code (Zhu et al. 2025), in words; `RagPrompt.from_passages` writes it."""
EXPLICIT = "explicit"
"""Boundary name of a prompt that was built from its parts."""
_PASSAGE = re.compile(f"{START}[^{MARK[0]}]*{MARK}")


@dataclass(frozen=True)
class RagPrompt:
    r"""A prompt in two parts; the virtual tokens go between them.

    Attributes:
        before: instructions and context.
        after: the question and what follows it.
        boundary: how the boundary was found: a rule's name, "mark", "explicit"; None if there is
            none, and then the whole prompt is in `before`.
        passage_ends: offsets in `before` at which passages end, best passage first.
        rendered: whether a chat template wrote it, and with it all special tokens.
        retrieved: (start, end) in `text` of what was retrieved, in order. The runtime reads no control tokens there.

    >>> prompt = RagPrompt.from_passages(["Lima is the capital of Peru."], "What is the capital of Peru?")
    >>> prompt.before
    '[1] Lima is the capital of Peru.\n\n'
    >>> prompt.after
    'Question: What is the capital of Peru?\nAnswer:'
    >>> RagPrompt.parse("Context: Lima is in Peru.\nIs it?").boundary is None
    True
    """

    before: str
    after: str
    boundary: str | None = EXPLICIT
    passage_ends: tuple[int, ...] = ()
    rendered: bool = False
    retrieved: tuple[tuple[int, int], ...] = field(default=(), compare=False)

    @property
    def text(self) -> str:
        """The prompt without virtual tokens: exactly what the plain backbone would be given."""
        return self.before + self.after

    def marked(self) -> str:
        """Returns the prompt as a string with marks, from which `parse` finds the same parts."""
        boundary = None if self.boundary is None else len(self.before)
        ends, starts = Counter(self.passage_ends), [a for a, _ in self.retrieved]
        cuts = sorted({0, *ends, *(at for span in self.retrieved for at in span), len(self.before)})
        text, pieces = self.text, list[str]()
        for at, end in itertools.pairwise([*cuts, len(text)]):
            pieces.append(MARK * ends[at] + (BOUNDARY if at == boundary else ""))
            nearest = bisect.bisect_right(starts, at) - 1
            if nearest >= 0 and at < self.retrieved[nearest][1] and (at == starts[nearest] or pieces[-1]):
                pieces.append(START)
            pieces.append(text[at:end])
        return "".join(pieces)

    @classmethod
    def from_passages(
        cls, passages: Sequence[Passage | str], question: str, *, special_tokens: Iterable[str] = ()
    ) -> RagPrompt:
        r"""Writes the paper's prompt: "[1] p1\n[2] p2\n\n" + tokens + "Question: q\nAnswer:".

        Args:
            passages: best first; without any, the prompt has no boundary.
            question: the question.
            special_tokens: the tokenizer's, to be neutralised in the passages.

        Raises:
            PromptError: if the question is empty.
            ArgumentsError: if passages or question are of the wrong kind.
        """
        check_passages(passages, question, "prompt(passages, question)")
        after = f"Question: {storable(check_question(question))}\nAnswer:"
        if not passages:
            return cls(after, "", None)
        before, retrieved = "", []
        for i, passage in enumerate(passages, 1):
            text = passage if isinstance(passage, str) else passage.text
            before += f"\n[{i}] " if before else f"[{i}] "
            start = len(before)
            before += neutralize(text, special_tokens)
            retrieved.append((start, len(before)))
        ends = tuple(end for _, end in retrieved)
        return cls(before + "\n\n", after, EXPLICIT, ends, retrieved=tuple(retrieved))

    @classmethod
    def parse(cls, text: str, rule: BoundaryRule | None = None) -> RagPrompt:
        """Finds the boundary in a prompt string and removes all marks.

        A rule for whole prompts that finds the boundary behind the mark of a boundary is believed: a
        passage of a retriever that our adapters do not wrap wrote that mark. Before the boundary of a
        stock prompt all is retrieved.

        Args:
            text: a prompt, with a mark or without.
            rule: the user's own rule for the boundary; None means the stock prompts alone.
        """
        plain, ends, boundary, retrieved, is_open = read_marks(storable(text))
        start = max(ends[-1] if ends else 0, boundary or 0)
        for rules in ((rule,) if rule else (), STOCK_RULES, QUESTION_STARTS if ends else ()):
            trusted = [r for r in rules if r.is_whole or boundary is None]
            found = [(at, r.name) for r in trusted if (at := r.find(plain, start)) is not None]
            if found:
                # A passage can hold a whole stock prompt, but the real question comes after it.
                at, name = max(found, key=lambda f: f[0])
                if rules is STOCK_RULES:
                    retrieved = [(0, at), *(span for span in retrieved if span[0] >= at)]
                elif is_open and retrieved[-1][0] < at:  # it ends here at the latest
                    retrieved[-1] = retrieved[-1][0], at
                name = EXPLICIT if at == boundary else name
                return cls(plain[:at], plain[at:], name, tuple(ends), retrieved=tuple(retrieved))
        if boundary is not None:
            ends = [end for end in ends if end <= boundary]
            return cls(plain[:boundary], plain[boundary:], EXPLICIT, tuple(ends), retrieved=tuple(retrieved))
        if ends:
            return cls(plain[:start], plain[start:], "mark", tuple(ends), retrieved=tuple(retrieved))
        return cls(plain, "", None, retrieved=tuple(retrieved))

    def without_marks(self) -> RagPrompt:
        """Returns the prompt without marks, which passages of our retrievers bring along."""
        before, after = read_marks(self.before), read_marks(self.after)
        moved = [(a + len(before.text), b + len(before.text)) for a, b in after.retrieved]
        return replace(
            self,
            before=before.text,
            after=after.text,
            passage_ends=self.passage_ends or tuple(before.ends),
            retrieved=self.retrieved or (*before.retrieved, *moved),
        )

    def with_passages(self, count: int) -> RagPrompt:
        """Returns the prompt with its first passages only: the best `count`, at least 1, of those it knows."""
        if not 1 <= count < len(self.passage_ends):
            return self
        cut, end = self.passage_ends[count - 1], self.passage_ends[-1]
        moved = [[min(at, max(cut, at - end + cut)) for at in span] for span in self.retrieved]
        return replace(
            self,
            before=self.before[:cut] + self.before[end:],
            passage_ends=self.passage_ends[:count],
            retrieved=tuple((a, b) for a, b in moved if a < b),
        )


def number_passages(context: str) -> str:
    r"""Returns marked passages as `RagPrompt.from_passages` writes them, "[1] p1\n[2] p2", with their marks.

    Args:
        context: what a chain joined of passages. One with words of its own between them, such as numbers or sources,
            or without marks, is returned as it is.
    """
    passages = _PASSAGE.findall(context)
    if not passages or _PASSAGE.sub("", context).strip():
        return context
    return "\n".join(f"[{i}] {passage}" for i, passage in enumerate(passages, 1))


def token_text(k: int) -> str:
    """Returns the text of the first k virtual tokens, as an exported model's tokenizer knows them."""
    return "".join(f"[ref{i}]" for i in range(1, k + 1))


def report_missing(prompt: RagPrompt, action: OnMissingBoundary, once: Once) -> None:
    """Does what is to be done about a prompt that has no boundary.

    Args:
        prompt: the prompt.
        action: "once" warns the first time, "warn" every time; "ignore" says nothing.
        once: what remembers whether it has been said.

    Raises:
        BoundaryError: if an error is asked for.
    """
    if action == "ignore":
        return
    msg = (
        "no boundary between context and question was found, so no virtual tokens were used; wrap the retriever in "
        f"SpringRetriever, or give boundary_rule. The prompt: {prompt.text[:80]!r}…"
    )
    if action == "error":
        raise BoundaryError(msg)
    if action == "warn":
        log.warning(msg)
    else:
        once.warn(log, msg, about="boundary")
