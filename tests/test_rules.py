"""Boundary rules against the regular expressions that they stand for, and in linear time on hostile text."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from growth import assert_linear
from hypothesis import given, settings
from hypothesis import strategies as st

from spring_integrations import MARK, RagPrompt
from spring_integrations.prompts import QUESTION_STARTS, STOCK_RULES, BoundaryRule
from spring_integrations.prompts.rules import StockRule

every_rule = pytest.mark.parametrize("rule", STOCK_RULES, ids=lambda rule: rule.name)
TEN_MEGABYTES = 10_000_000
JOINTS = ("\n", " ", "-----", "\n-----\n", "\nassistant:", "Question: ", "\nAnswer:", "x")


def reference(rule: StockRule) -> re.Pattern[str]:
    """The whole prompt as one expression, which backtracks."""

    def either(parts: list[str]) -> str:
        return f"(?:{'|'.join(parts)})"

    def in_turn(literals: tuple[str, ...]) -> str:
        return ".*".join(map(re.escape, literals))

    heads = either([in_turn(head) + (r"-*\n" if head[-1].endswith("-") else "") for head in rule.heads])
    before = (r"\n-{5,}" if rule.has_line else "") + either([re.escape(text) for text in rule.before])
    question = either([in_turn(literals) + ("" if rule.has_end else ".*") for literals in rule.question])
    end = r"(?:\s*\nassistant:)?" if rule.is_chat else ""
    return re.compile(rf"\A{heads}.*{before}(?P<q>{question}){end}\s*\Z", re.S)


@st.composite
def near_prompts(draw: st.DrawFn, rule: StockRule) -> str:
    literals = sorted({*JOINTS, *rule.before, *sum(rule.question, ()), *sum(rule.heads, ())})
    junk = st.lists(st.sampled_from(literals), max_size=3).map("".join)
    text = "".join(literal + draw(junk) for literal in draw(st.sampled_from(rule.heads)))
    text += draw(st.sampled_from(["", "--\n", "\n"])) + draw(junk) + draw(st.sampled_from(["", "\n------"]))
    text += draw(st.sampled_from(rule.before))
    text += "".join(literal + draw(junk) for literal in draw(st.sampled_from(rule.question)))
    return text + draw(st.sampled_from(["", *sum(rule.question, ()), "\nassistant:", " \n"]))


@every_rule
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_finds_what_the_expression_finds(rule: StockRule, data: st.DataObject) -> None:
    text = data.draw(near_prompts(rule))
    found = reference(rule).match(text)
    # The reference tries every place where the head can end; the rule takes the first.
    at = rule.find(text)
    if at is not None:
        assert found is not None
        assert found.start("q") == at
        assert rule.find(text, at) == at
        assert rule.find(text, at + 1) is None
    elif found is not None:
        assert any(head[-1].endswith("-") and text.count(head[-1]) > 1 for head in rule.heads)


@every_rule
def test_is_linear_in_near_matches(rule: StockRule) -> None:
    line = "\n-----" if rule.has_line else ""
    opening = "".join(rule.heads[-1]) + ("\n" if rule.heads[-1][-1].endswith("-") else "")
    first, *_, last = rule.question[0] if len(rule.question[0]) > 1 else (rule.question[0][0], "")
    for piece in (f"{line}{rule.before[0]}{first}", f"{line}{rule.before[0]}", "\n-----", last + "\n", " "):
        if piece.strip() or piece == " ":

            def search(size: int, piece: str = piece) -> Callable[[], object]:
                text = opening + piece * (size // len(piece)) + last + "x"
                return lambda: rule.find(text)

            assert_linear(search, TEN_MEGABYTES)


@pytest.mark.parametrize("piece", ["\nQuestion: ", "Question: x\n", "\n", "\nHuman: ", " "])
def test_openings_of_questions_and_templates_are_linear_too(piece: str) -> None:
    template = BoundaryRule.from_user("Docs: {context}\nBe {style}.\n\nQuestion: {question}\n{end}Human: {more}!")
    for rule in (*QUESTION_STARTS, template):

        def search(size: int, rule: BoundaryRule = rule) -> Callable[[], object]:
            text = f"Docs: {piece * (size // len(piece))}"
            return lambda: rule.find(text, 10)

        assert_linear(search, TEN_MEGABYTES)


def test_a_whole_prompt_is_parsed_in_linear_time() -> None:
    for piece in ("Context information is below.\n-----\n", f"a{MARK}"):
        assert_linear(lambda n, piece=piece: lambda text=piece * n: RagPrompt.parse(text), 100_000)
