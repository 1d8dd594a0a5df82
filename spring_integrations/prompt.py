"""Where the virtual tokens go: the boundary between retrieved context and question. Text only.

A boundary is found by, in this order: the user's own rule, the stock prompts of LangChain and
LlamaIndex, and the mark that our retriever adapters leave at the end of every passage. A prompt
without any of them is not a RAG prompt and gets no virtual tokens.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from spring_integrations.errors import BoundaryError, PromptError
from spring_integrations.passages import Passage

log = logging.getLogger(__name__)

OnMissingBoundary = Literal["ignore", "warn", "error"]

MARK = "\u2063" * 3
"""End of a passage: INVISIBLE SEPARATOR three times. It survives formatting, `str.strip` and JSON."""

_BOUNDARY = "\u2063\u2064\u2063"  # the boundary itself, where it is known already and no rule is to look for it

OFFICIAL_TEMPLATE = "[i] passage\\n … \\n\\n<virtual tokens>Question: question\\nAnswer:"
"""Prompt of the paper's code (Zhu et al. 2025), in words; `RagPrompt.from_passages` writes it."""

EXPLICIT = "explicit"
"""Boundary name of a prompt that was built from its parts."""

# A Python list repr, as LlamaIndex's simple_summarize inserts, shows the mark as escapes.
_MARKS = re.compile(rf"({MARK}|(?:\\u2063){{3}}|{_BOUNDARY})")
_INVISIBLE = "\u2060"  # WORD JOINER: breaks up control text without showing
_REFERENCE = re.compile(r"\[ref\d+\]")
_CONTROL = re.compile(
    r"\\u2063"
    r"|\[ref\d+\]"
    r"|<\|[^<>|\s]{1,40}\|>|<｜[^<>｜]{1,40}｜>"
    r"|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>"
    r"|\[/?INST\]|<</?SYS>>|\[(?:CLS|SEP|PAD|MASK|UNK)\]"
)


@dataclass(frozen=True)
class BoundaryRule:
    """A pattern whose group `q`, or else whose whole match, starts where the virtual tokens go."""

    name: str
    pattern: re.Pattern[str]

    def find(self, text: str, start: int = 0) -> int | None:
        """Returns the last position at or after `start` that the rule recognises."""
        group = "q" if "q" in self.pattern.groupindex else 0
        return max((at for m in self.pattern.finditer(text) if (at := m.start(group)) >= start), default=None)

    @classmethod
    def from_user(cls, rule: str | re.Pattern[str] | BoundaryRule) -> BoundaryRule:
        """Makes a rule from a template with `{context}` and `{question}`, or a regular expression.

        In a template the tokens go to the start of the line that holds `{question}`; in a regular
        expression to the start of its group `q`, or of the whole match if there is no such group.

        Raises:
            PromptError: if the template lacks a placeholder or the expression does not compile.
        """
        if isinstance(rule, BoundaryRule):
            return rule
        if isinstance(rule, str) and ("{context}" in rule or "{question}" in rule):
            return cls("template", _compile_template(rule))
        try:
            return cls("pattern", re.compile(rule))
        except re.error as error:
            msg = f"boundary_rule {rule!r} is not a regular expression: {error}"
            raise PromptError(msg) from error


def _compile_template(template: str) -> re.Pattern[str]:
    head, context, tail = template.partition("{context}")
    before, question, after = tail.partition("{question}")
    if not (context and question):
        msg = f"a boundary template needs {{context}} and after it {{question}}, got {template!r}"
        raise PromptError(msg)
    line = before.rfind("\n") + 1
    any_name = re.compile(r"\\\{\w+\\\}")
    parts = [any_name.sub(".*?", re.escape(part)) for part in (head, before[:line], before[line:], after)]
    start = parts[0] or r"\A"  # an empty one would make the search start over at every character
    return re.compile(rf"(?s){start}.*{parts[1]}(?P<q>{parts[2]}.*{parts[3]})\s*\Z")


def _stock(name: str, head: str, before: str, question: str) -> BoundaryRule:
    # The context comes after the head. Both ends are pinned, so that no passage can be the prompt.
    return BoundaryRule(name, re.compile(rf"\A{head}.*{before}(?P<q>{question})\s*\Z", re.S))


_CHAT_SYSTEM = r"(?:system: .*\nuser: )?"
_CHAT_END = r"(?:\s*\nassistant:)?"

STOCK_RULES = (
    _stock("official", r"\[1\] ", r"\n\n", r"Question: .*\nAnswer:"),
    _stock(
        "langchain-stuff",
        r"Use the following pieces of context to answer the question at the end\.",
        r"\n",
        r"Question: .*\nHelpful Answer:",
    ),
    _stock(
        "langchain-chat",
        r"System: (?:Use the following p|Given the following e|Context information is below)",
        r"\nHuman: ",
        r".*",
    ),
    _stock(
        "langchain-map",
        r"Use the following portion of a long document",
        r"\n",
        r"Question: .*\nRelevant text, if any:",
    ),
    _stock(
        "langchain-combine",
        r"Given the following extracted parts of a long document",
        r"\n=========\n",
        r"FINAL ANSWER:",
    ),
    _stock(
        "langchain-refine-question",
        r"Context information is below\. \n-{5,}\n",
        r"\n-{5,}\n",
        r"Given the context information and not prior knowledge, answer the question: .*",
    ),
    _stock(
        "refine",
        r"(?:The original (?:question|query) is as follows: |Human: |We have the opportunity to refine )",
        r"some more context below\..*\n-{5,}\n",
        r"Given the new context, refine the original answer to better answer the (?:question|query)\. "
        r"If the context isn't useful, return the original answer\.(?:\nRefined Answer:)?",
    ),
    _stock(
        "llama-index-qa",
        _CHAT_SYSTEM + r"Context information (?:from multiple sources )?is below\.\n-{5,}\n",
        r"\n-{5,}\nGiven the (?:context information|information from multiple sources) and not prior knowledge, "
        r"answer the query\.\n",
        r"Query: .*\nAnswer:" + _CHAT_END,
    ),
    _stock(
        "llama-index-chat-refine",
        r"(?:(?:system|user): )?(?:You are an expert Q&A system that strictly operates.*)?New Context:",
        r"\n",
        r"Query: .*\nOriginal Answer: .*\nNew Answer:" + _CHAT_END,
    ),
    _stock(
        "llama-index-citation",
        r"(?:user: )?Please provide an answer based solely on the provided sources\. .*Now it's your turn\. ",
        r"\n-{5,}\n",
        r"Query: .*\nAnswer:" + _CHAT_END,
    ),
    _stock(
        "llama-index-context-chat",
        r"system: .*(?:Use the context information below|Here are the relevant documents for the context"
        r"|Using the context below, refine the following)",
        r"\nuser: ",
        r".*",
    ),
)
"""The frameworks' default prompts, whole; they are recognised without a mark as well."""

_QUESTION_STARTS = (
    BoundaryRule("question", re.compile(r"^(?P<q>(?:Question|QUESTION|Query|Q) ?: )", re.M)),
    BoundaryRule("last-turn", re.compile(r"^(?:Human|User|human|user): (?P<q>)", re.M)),
)
"""Beginnings of a question that count only behind a mark, where no passage can forge them."""


@dataclass(frozen=True)
class RagPrompt:
    """A prompt in two parts; the virtual tokens go between them.

    Attributes:
        before: instructions and context.
        after: the question and what follows it.
        boundary: how the boundary was found: a rule's name, "mark", "explicit"; None if there is
            none, and then the whole prompt is in `before`.
        passage_ends: offsets in `before` at which passages end, best passage first.
        rendered: whether a chat template wrote it, and with it all special tokens.
    """

    before: str
    after: str
    boundary: str | None = EXPLICIT
    passage_ends: tuple[int, ...] = ()
    rendered: bool = False

    @property
    def text(self) -> str:
        """The prompt without virtual tokens: exactly what the plain backbone would be given."""
        return self.before + self.after

    def marked(self) -> str:
        """Returns the prompt as a string with marks, from which `parse` finds the same parts."""
        starts = (0, *self.passage_ends)
        before = MARK.join(self.before[a:b] for a, b in zip(starts, (*self.passage_ends, None), strict=True))
        return before + self.after if self.boundary is None else f"{before}{_BOUNDARY}{self.after}"

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
        """
        after = f"Question: {check_question(question)}\nAnswer:"
        if not passages:
            return cls(after, "", None)
        before, ends = "", []
        for i, passage in enumerate(passages, 1):
            text = passage if isinstance(passage, str) else passage.text
            before += f"\n[{i}] " if before else f"[{i}] "
            before += neutralize(text, special_tokens)
            ends.append(len(before))
        return cls(before + "\n\n", after, EXPLICIT, tuple(ends))

    @classmethod
    def parse(cls, text: str, rule: BoundaryRule | None = None) -> RagPrompt:
        """Finds the boundary in a prompt string and removes all marks."""
        plain, ends, boundary = _remove_marks(text)
        if boundary is not None:
            return cls(plain[:boundary], plain[boundary:], EXPLICIT, tuple(e for e in ends if e <= boundary))
        start = ends[-1] if ends else 0
        for rules in ((rule,) if rule else (), STOCK_RULES, _QUESTION_STARTS if ends else ()):
            found = [(at, r.name) for r in rules if (at := r.find(plain, start)) is not None]
            if found:
                # A passage can hold a whole stock prompt, but the real question comes after it.
                at, name = max(found, key=lambda f: f[0])
                return cls(plain[:at], plain[at:], name, tuple(ends))
        if ends:
            return cls(plain[:start], plain[start:], "mark", tuple(ends))
        return cls(plain, "", None)

    def without_marks(self) -> RagPrompt:
        """Returns the prompt without marks, which passages of our retrievers bring along."""
        before, ends, _ = _remove_marks(self.before)
        return replace(
            self, before=before, after=remove_marks(self.after), passage_ends=self.passage_ends or tuple(ends)
        )

    def without_last_passage(self) -> RagPrompt | None:
        """Returns the prompt without its lowest-ranked passage, None if only one is left."""
        if len(self.passage_ends) < 2:
            return None
        cut, end = self.passage_ends[-2:]
        return replace(self, before=self.before[:cut] + self.before[end:], passage_ends=self.passage_ends[:-1])


def check_question(question: str) -> str:
    """Returns the question; raises PromptError if it is empty."""
    if not question.strip():
        msg = f"the question is empty ({question!r}); ask something"
        raise PromptError(msg)
    return question


def neutralize(text: str, special_tokens: Iterable[str] = ()) -> str:
    """Makes retrieved text harmless: it can neither move the boundary nor open a chat role.

    Marks are removed; `[refN]`, common control tokens and `special_tokens` get an invisible
    character inside, so that tokenizers read them as plain text. Applying it twice changes nothing.
    """
    text = text.replace(MARK[0], "")
    text = _CONTROL.sub(lambda m: _split_up(m.group()), text)
    for token in special_tokens:
        if len(token.strip()) > 1:
            text = text.replace(token, _split_up(token))
    return text


def neutralize_marked(text: str, special_tokens: Iterable[str] = ()) -> str:
    """Returns the neutralised text with its marks."""
    return "".join(p if i % 2 else neutralize(p, special_tokens) for i, p in enumerate(_MARKS.split(text)))


def mark_passage(text: str, special_tokens: Iterable[str] = ()) -> str:
    """Returns the neutralised text with a mark at its end."""
    return neutralize(text, special_tokens) + MARK


def token_text(k: int) -> str:
    """Returns the text of the first k virtual tokens, as an exported model's tokenizer knows them."""
    return "".join(f"[ref{i}]" for i in range(1, k + 1))


def break_references(text: str) -> str:
    """Returns the text with an invisible character in every `[refN]`: only `token_text` means tokens."""
    return _REFERENCE.sub(lambda m: _split_up(m.group()), text)


def report_missing(prompt: RagPrompt, action: OnMissingBoundary) -> None:
    """Does what is to be done about a prompt that has no boundary.

    Raises:
        BoundaryError: if an error is asked for.
    """
    if action == "ignore":
        return
    msg = (
        "found no boundary between context and question, so no virtual tokens are used, in the prompt "
        f"{prompt.text[:80]!r}…; retrieve through SpringRetriever, or give boundary_rule"
    )
    if action == "error":
        raise BoundaryError(msg)
    log.warning(msg)


def remove_marks(text: str) -> str:
    """Returns the text without marks: what an end user should see."""
    return _remove_marks(text)[0]


def mark_last_turn(
    turns: Sequence[tuple[str, str]], rule: BoundaryRule | None = None
) -> tuple[list[tuple[str, str]], str | None]:
    """Marks the boundary of a chat in the last human turn; returns the turns and the rule's name.

    Where the last human turn holds a boundary itself, it is marked there. Where the context stands
    in an earlier turn, the boundary opens the content of the last human turn, so that virtual tokens
    never sit between role headers. Where a tool has found passages since, it stands behind them, in
    the tool's turn. Of the marks of passages, those of the last turn with any stay. No mark stands in
    the white space at an end of a turn: templates that trim would not find it.

    Args:
        turns: (role, content) pairs; the human's role is "user" or "human".
        rule: the user's own rule.
    """
    last = max((i for i, (role, _) in enumerate(turns) if role in ("user", "human")), default=None)
    result = [(role, remove_marks(content)) for role, content in turns]
    if last is None:
        return result, None
    last = max([last, *(i for i, (_, content) in enumerate(turns) if _MARKS.search(content))])
    parsed = RagPrompt.parse(turns[last][1], rule)
    earlier = max((i for i, (_, content) in enumerate(turns[:last]) if _MARKS.search(content)), default=None)
    if parsed.boundary is None:
        if earlier is None and not any(phrase in content for _, content in turns[:last] for phrase in _CHAT_CONTEXT):
            return result, None
        parsed = RagPrompt("", parsed.text, "last-turn")
    result[last] = (turns[last][0], _inside(parsed).marked())
    if earlier is not None and not parsed.passage_ends:
        role, content = turns[earlier]
        plain, ends, _ = _remove_marks(content)
        result[earlier] = (role, _inside(RagPrompt(plain, "", None, tuple(ends))).marked())
    return result, parsed.boundary


_CHAT_CONTEXT = (
    "Use the following pieces of context to answer the user's question.",
    "Given the following extracted parts of a long document and a question",
    "Use the following portion of a long document to see if any",
    "Use the context information below to assist the user.",
    "Using the context below, refine the following existing answer",
    "Here are the relevant documents for the context:",
    "Context information is below.\n------------\n",
)
"""Stock system messages that carry the context of a chat whose question comes in a later turn."""


def _inside(prompt: RagPrompt) -> RagPrompt:
    """Returns the prompt with boundary and ends of passages moved out of the white space at its ends."""
    text = prompt.text
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    at, *ends = (max(first, min(end, last)) for end in (len(prompt.before), *prompt.passage_ends))
    return replace(prompt, before=text[:at], after=text[at:], passage_ends=tuple(ends))


def _split_up(token: str) -> str:
    return token[0] + _INVISIBLE + token[1:]


def _remove_marks(text: str) -> tuple[str, list[int], int | None]:
    """Returns the text, where its passages end, and where the last mark of a boundary stood."""
    pieces = _MARKS.split(text)  # text and marks in turn
    ends: list[int] = []
    boundary, at = None, 0
    for piece, mark in zip(pieces[::2], pieces[1::2], strict=False):
        at += len(piece)
        if mark == _BOUNDARY:
            boundary = at
        else:
            ends.append(at)
    return "".join(pieces[::2]), ends, boundary
