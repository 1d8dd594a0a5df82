"""Boundary rules: the user's own, and the stock prompts of LangChain and LlamaIndex.

Passages can hold anything, so no rule but a user's own regular expression backtracks: each searches a
prompt in time linear in its length.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from spring_integrations.errors import ArgumentsError, PromptError


@dataclass(frozen=True)
class BoundaryRule:
    """A pattern whose group `q`, or else whose whole match, starts where the virtual tokens go."""

    name: str
    pattern: re.Pattern[str]
    is_whole: ClassVar[bool] = False
    """Whether it knows a prompt from its first to its last character, so that no passage can be the prompt."""

    def find(self, text: str, start: int = 0) -> int | None:
        """Returns the last position at or after `start` that the rule recognises.

        Args:
            text: a prompt.
            start: where the search begins, in characters.
        """
        group = "q" if "q" in self.pattern.groupindex else 0
        return max((at for m in self.pattern.finditer(text) if (at := m.start(group)) >= start), default=None)

    @classmethod
    def from_user(cls, rule: str | re.Pattern[str] | BoundaryRule) -> BoundaryRule:
        """Makes a rule from a template with `{context}` and `{question}`, or a regular expression.

        A template may call them as LangChain and LlamaIndex do: `{context_str}`, and `{input}`, `{query}` or
        `{query_str}`, in single or double braces. In a template the tokens go to the start of the line that holds
        the question; in a regular expression to the start of its group `q`, or of the whole match if there is no
        such group. An expression that backtracks over a long context (several `.*`) can be slow on hostile
        passages; a template is not.

        Raises:
            PromptError: if the template lacks a placeholder or the expression does not compile.
            ArgumentsError: if it is of another type.
        """
        if isinstance(rule, BoundaryRule):
            return rule
        if not isinstance(rule, str | re.Pattern):
            msg = f"boundary_rule must be a template or a regular expression, got {type(rule).__name__} {rule!r}"
            raise ArgumentsError(msg)
        if isinstance(rule, str):
            template = _QUESTION.sub("{question}", _CONTEXT.sub("{context}", rule))
            if "{context}" in template or "{question}" in template:
                return TemplateRule.read(template)
        try:
            return cls("pattern", re.compile(rule))
        except re.error as error:
            msg = f"boundary_rule {rule!r} is not a regular expression: {error}"
            raise PromptError(msg) from error


@dataclass(frozen=True)
class TemplateRule(BoundaryRule):
    """A prompt of the user's, as literals with anything between them.

    Attributes:
        head: literals before the context; the first opens the prompt.
        middle: literals between the context and the line of the question.
        line: literals of that line and of what follows it.
        is_closed: whether the last of these ends the prompt.
    """

    head: tuple[str, ...] = ()
    middle: tuple[str, ...] = ()
    line: tuple[str, ...] = ()
    is_closed: bool = False
    is_whole: ClassVar[bool] = True

    @classmethod
    def read(cls, template: str) -> TemplateRule:
        """Reads a template with `{context}`, after it `{question}`, and any other placeholders.

        Raises:
            PromptError: if one of these two is missing.
        """
        head, context, tail = template.partition("{context}")
        before, question, after = tail.partition("{question}")
        if not (context and question):
            msg = f"a boundary template needs {{context}} and after it {{question}}, got {template!r}"
            raise PromptError(msg)
        start = before.rfind("\n") + 1
        line = before[start:] + question + after.rstrip()
        opening, middle, asked = (tuple(_PLACEHOLDER.split(part)) for part in (head, before[:start], line))
        return cls("template", re.compile(re.escape(template)), opening, middle, asked, bool(asked[-1]))

    def find(self, text: str, start: int = 0) -> int | None:
        """Returns where the line of the question starts, if the whole text is such a prompt."""
        opened, end = _find_in_turn(text, self.head), len(text)
        if opened is None:
            return None
        # The line from its right end on, so that its start is the last that can be.
        first, *rest = self.line
        if self.is_closed:
            last, end = rest.pop(), len(text.rstrip())
            if not text.endswith(last, opened, end):
                return None
            end -= len(last)
        for literal in reversed(rest):
            if (end := text.rfind(literal, opened, end)) < 0:
                return None
        # What is between context and line ends where the line starts.
        *loose, joint = self.middle
        at = text.rfind(joint + first, opened, end)
        if at < 0 or at + len(joint) < start:
            return None
        return None if _find_in_turn(text, loose, opened, at) is None else at + len(joint)


_PLACEHOLDER = re.compile(r"\{\w+\}")
_CONTEXT = re.compile(r"\{(?:context|context_str|\{ ?(?:context|context_str) ?\})\}")
_QUESTION = re.compile(r"\{(?:question|query|query_str|input|\{ ?(?:question|query|query_str|input) ?\})\}")


@dataclass(frozen=True)
class StockRule:
    """A prompt that a framework ships; both its ends are pinned, so that no passage can be the prompt.

    Attributes:
        name: what it is called where the boundary is reported.
        heads: what it can open with: literals, the first at the very start, others somewhere later. Hyphens
            at the end of a head are those that open a line of hyphens.
        before: what may come between the context and the question.
        question: its forms, each as literals with anything between them.
        has_end: whether the last literal of the question ends the prompt.
        has_line: whether a line of five hyphens or more comes before `before`.
        is_chat: whether "assistant:" can follow.
    """

    name: str
    heads: tuple[tuple[str, ...], ...]
    before: tuple[str, ...]
    question: tuple[tuple[str, ...], ...]
    has_end: bool = True
    has_line: bool = False
    is_chat: bool = False
    is_whole: ClassVar[bool] = True

    def find(self, text: str, start: int = 0) -> int | None:
        """Returns where the question starts, if the whole text is this prompt and that is at or after `start`."""
        opened = min((end for head in self.heads if (end := _find_head(text, head)) is not None), default=None)
        if opened is None:
            return None
        ends = [len(text.rstrip()) if self.has_end else len(text)]
        if self.is_chat and text.endswith(_CHAT_END, 0, ends[0]):
            ends.append(len(text[: ends[0] - len(_CHAT_END)].rstrip()))
        forms = itertools.product(self.before, self.question, ends)
        return max((at for form in forms if (at := self._last(text, opened, *form)) >= start), default=None)

    def _last(self, text: str, opened: int, before: str, literals: tuple[str, ...], end: int) -> int:
        """Returns where the question starts at the latest, if it is of this form and ends there; else -1."""
        first, *rest = literals
        if self.has_end:
            last = rest.pop() if rest else first
            if not text.endswith(last, opened, end):
                return -1
            end -= len(last) if len(literals) > 1 else 0
        for literal in reversed(rest):
            end = max(text.rfind(literal, opened, end), 0)
        if self.has_line:
            # `.*` goes back from the right, one try at each line of hyphens.
            found = re.compile(rf"(?s).*\n-{{5,}}{re.escape(before + first)}").match(text, opened, end)
            at = found.end() - len(first) if found else -1
        else:
            at = text.rfind(before + first, opened, end)
            at = at + len(before) if at >= 0 else -1
        is_last = not self.has_end or len(literals) > 1 or at + len(first) == end
        return at if is_last else -1


def _find_head(text: str, head: tuple[str, ...]) -> int | None:
    end = _find_in_turn(text, head) if text.startswith(head[0]) else None
    if end is None or not head[-1].endswith("-"):
        return end
    line = _REST_OF_LINE.match(text, end)
    return line.end() if line else None


def _find_in_turn(text: str, literals: Sequence[str], start: int = 0, end: int | None = None) -> int | None:
    """Returns where the literals, each after the one before, end at the earliest; None if one is missing."""
    for literal in literals:
        if (at := text.find(literal, start, end)) < 0:
            return None
        start = at + len(literal)
    return start


@dataclass(frozen=True)
class LineRule:
    """Lines that open a question.

    Attributes:
        name: what it is called where the boundary is reported.
        openings: what the line can open with.
        is_after: whether the boundary is behind the opening, and not before it.
    """

    name: str
    openings: tuple[str, ...]
    is_after: bool = False
    is_whole: ClassVar[bool] = False

    def find(self, text: str, start: int = 0) -> int | None:
        """Returns the boundary of the last such line that has it at or after `start`."""
        return max((at for opening in self.openings if (at := self._last(text, opening)) >= start), default=None)

    def _last(self, text: str, opening: str) -> int:
        at = text.rfind("\n" + opening) + 1
        if not at and not text.startswith(opening):
            return -1
        return at + len(opening) if self.is_after else at


_REST_OF_LINE = re.compile(r"-*\n")
_CHAT_END = "\nassistant:"
_INFORMATION = (
    "Context information is below.\n-----",
    "Context information from multiple sources is below.\n-----",
)
_EXPERT = "You are an expert Q&A system that strictly operates"
_CITED = "Please provide an answer based solely on the provided sources. "
_REFINE = (
    "Given the new context, refine the original answer to better answer the {}. "
    "If the context isn't useful, return the original answer."
)
_HUB = "You are an assistant for question-answering tasks. Use the following pieces of retrieved context"
_ONLY = (
    "Answer the question based only on the following context:",
    "Answer the following question based only on the provided context:",
)
STOCK_RULES = (
    StockRule("official", (("[1] ",),), ("\n\n",), (("Question: ", "\nAnswer:"),)),
    StockRule(
        "langchain-stuff",
        (
            ("Use the following pieces of context to answer the question at the end.",),
            ("Human: Use the following pieces of context to answer the question at the end.",),
        ),
        ("\n",),
        (("Question: ", "\nHelpful Answer:"), ("Question: ", "\nAnswer:")),
    ),
    StockRule(
        "langchain-chat",
        (
            ("System: Use the following p",),
            ("System: Given the following e",),
            ("System: Context information is below",),
            ("System: " + _HUB,),
            ("System: Answer the user's questions based on the below context",),
            ("System: Answer any use questions based solely on the context below",),
            ("System: You are a helpful assistant. Use the following context",),
        ),
        ("\nHuman: ",),
        (("",),),
        has_end=False,
    ),
    StockRule(  # rlm/rag-prompt, also of LangChain's tutorials: the question comes first, so only "Answer:" is behind
        "langchain-hub",
        ((_HUB, "\nQuestion: ", "\nContext: "), ("Human: " + _HUB, "\nQuestion: ", "\nContext: ")),
        ("\n",),
        (("Answer:",),),
    ),
    StockRule(
        "langchain-lcel",
        tuple((opening + context,) for opening in ("", "Human: ") for context in _ONLY),
        ("\n",),
        (("Question: ",),),
        has_end=False,
    ),
    StockRule(
        "langchain-map",
        (("Use the following portion of a long document",),),
        ("\n",),
        (("Question: ", "\nRelevant text, if any:"),),
    ),
    StockRule(
        "langchain-combine",
        (("Given the following extracted parts of a long document",),),
        ("\n=========\n",),
        (("FINAL ANSWER:",),),
    ),
    StockRule(
        "langchain-refine-question",
        (("Context information is below. \n-----",),),
        ("\n",),
        (("Given the context information and not prior knowledge, answer the question: ",),),
        has_end=False,
        has_line=True,
    ),
    StockRule(
        "refine",
        tuple(
            (opening, "some more context below.")
            for opening in (
                "The original question is as follows: ",
                "The original query is as follows: ",
                "Human: ",
                "We have the opportunity to refine ",
            )
        ),
        ("\n",),
        tuple((_REFINE.format(word) + end,) for word in ("question", "query") for end in ("", "\nRefined Answer:")),
        has_line=True,
    ),
    StockRule(
        "llama-index-qa",
        (*((text,) for text in _INFORMATION), *(("system: ", f"\nuser: {text}") for text in _INFORMATION)),
        tuple(
            f"\nGiven the {what} and not prior knowledge, answer the query.\n"
            for what in ("context information", "information from multiple sources")
        ),
        (("Query: ", "\nAnswer:"),),
        has_line=True,
        is_chat=True,
    ),
    StockRule(
        "llama-index-chat-refine",
        tuple(
            (role + literals[0], *literals[1:])
            for role in ("", "system: ", "user: ")
            for literals in (("New Context:",), (_EXPERT, "New Context:"))
        ),
        ("\n",),
        (("Query: ", "\nOriginal Answer: ", "\nNew Answer:"),),
        is_chat=True,
    ),
    StockRule(
        "llama-index-citation",
        ((_CITED, "Now it's your turn. "), (f"user: {_CITED}", "Now it's your turn. ")),
        ("\n",),
        (("Query: ", "\nAnswer:"),),
        has_line=True,
        is_chat=True,
    ),
    StockRule(
        "llama-index-context-chat",
        tuple(
            ("system: ", text)
            for text in (
                "Use the context information below",
                "Here are the relevant documents for the context",
                "Using the context below, refine the following",
            )
        ),
        ("\nuser: ",),
        (("",),),
        has_end=False,
    ),
)
"""The frameworks' default prompts, whole; they are recognised without a mark as well."""
QUESTION_STARTS = (
    LineRule("question", tuple(f"{w}{gap}: " for w in ("Question", "QUESTION", "Query", "Q") for gap in ("", " "))),
    LineRule("last-turn", tuple(f"{word}: " for word in ("Human", "User", "human", "user")), is_after=True),
)
"""Beginnings of a question that count only behind a mark, where no passage can forge them."""
