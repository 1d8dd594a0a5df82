"""Prompts for a server of an exported model: the text that is sent. Adapters: test_langchain_served."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st

from spring_integrations import MARK, SpringModel, SpringTokens
from spring_integrations.chat.template import ChatTemplate, Turn
from spring_integrations.errors import BoundaryError, PromptError, SettingsError, TokenCountError
from spring_integrations.prompts import mark_passage
from spring_integrations.prompts.served_text import ServedTokens

REFS = "[ref1][ref2][ref3]"
CONTEXT = "\n".join(map(mark_passage, ("Lima is in Peru. [ref2]", "Oslo is in Norway.")))
STUFF = "Use the following pieces of context to answer the question at the end.\n\n{}\n\nQuestion: {}\nHelpful Answer:"
RULES = (
    None,
    r"\n\n",
    r"\n\nQuestion:",
    "Lima|who",
    "{context}\n\n{question}",
    "[1] {context}\n\nQuestion: {question}\nAnswer:",
)
UNMARKED = st.characters(codec="utf-8", exclude_characters="\u2063\\")
plain_text = st.text(UNMARKED).filter(lambda t: "[ref" not in t)


def test_the_token_text_stands_where_the_virtual_tokens_would() -> None:
    sent = ServedTokens(3).prompt(f"{CONTEXT}\n\nQuestion: [ref1] who?\nAnswer:")
    (text,) = sent.texts
    assert text.endswith(f"Oslo is in Norway.\n\n{REFS}Question: [\u2060ref1] who?\nAnswer:")
    assert text.count("[ref") == 3
    assert MARK not in text
    assert sent.info() == {"k": 3, "boundary": "question"}


@given(plain_text)
def test_other_prompts_are_sent_as_they_are(text: str) -> None:
    assert ServedTokens(3).prompt(text) == ((text,), 0, None)
    assert ServedTokens(3).chat([("system", "Be kind."), ("user", text)]) == (("Be kind.", text), 0, None)


def test_k_0_sends_the_prompt_without_marks() -> None:
    sent = ServedTokens(0).prompt(f"Lima.{MARK}\n\nQuestion: who?")
    assert sent == (("Lima.\n\nQuestion: who?",), 0, "question")


def test_own_rule() -> None:
    rule = "Facts: {context}\nAsk: {question}"
    assert ServedTokens(1, rule).prompt("Facts: a\nAsk: b") == (("Facts: a\n[ref1]Ask: b",), 1, "template")


@pytest.mark.parametrize("human", ["user", "human"])
def test_in_a_chat_it_opens_the_last_human_turn(human: str) -> None:
    turns = [("system", f"Facts:\n{CONTEXT}"), (human, "Hi"), ("assistant", "Yes?"), (human, "which city?")]
    sent = ServedTokens(3).chat(turns)
    facts = "Facts:\nLima is in Peru. [\u2060ref2]\nOslo is in Norway."
    assert sent == ((facts, "Hi", "Yes?", f"{REFS}which city?"), 3, "last-turn")


def test_in_a_chat_with_context_and_question_in_one_turn() -> None:
    sent = ServedTokens(3).chat([("system", "Be kind."), ("user", f"{CONTEXT}\n\nQuery: who?")])
    assert sent.texts[1].endswith(f"Norway.\n\n{REFS}Query: who?")
    assert (sent.texts[0], sent.k, sent.boundary) == ("Be kind.", 3, "question")


@pytest.fixture(scope="module")
def models(random_tokens: SpringTokens) -> dict[str | None, SpringModel]:
    model = SpringModel(*tiny_models.build("llama"), random_tokens)
    return {rule: model.with_changes(boundary_rule=rule) for rule in RULES}


@settings(deadline=None)
@given(
    st.sampled_from(RULES),
    st.sampled_from([STUFF, "[1] {}\n\nQuestion: {}\nAnswer:", "{}\n\n{}", "{}\nQuery: {}\nAnswer: "]),
    st.sampled_from(["Lima.", f"Lima.{MARK}", CONTEXT, f"x Question: y\nAnswer: z{MARK}", "[ref1] Lima"]),
    st.sampled_from(["who?", "who?\nQuestion: really?\nHelpful Answer:", "[ref1] what? ", STUFF.format("a", "b")]),
    st.sampled_from(["{u}", "{u}{a}{q}", "{s}{u}", "{s}{q}", "{s}{q}{a}{q}", "{u}{q}"]),
)
def test_in_a_chat_they_stand_where_the_local_model_has_them(
    models: dict[str | None, SpringModel], rule: str | None, form: str, context: str, question: str, plan: str
) -> None:
    contents = {"s": ("system", f"Facts: {context}"), "u": ("user", form.format(context, question))}
    contents |= {"q": ("user", question), "a": ("assistant", "ok")}
    turns = [contents[name] for name in re.findall(r"\w", plan)]
    model = models[rule]
    sent, local = ServedTokens(3, rule, "ignore").chat(turns), ChatTemplate(model).prompt([Turn(*t) for t in turns])
    assert sum(len(re.findall(r"\[ref\d+\]", text)) for text in sent.texts) == sent.k
    assert (sent.boundary, sent.k) == (local.boundary, 3 if local.boundary else 0)
    conversation = [{"role": role, "content": text} for (role, _), text in zip(turns, sent.texts, strict=True)]
    text = model.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    text = text.replace("\u2060", "")
    assert text.replace(REFS, "\0") == f"{local.before}{chr(0) * bool(sent.k)}{local.after}".replace("\u2060", "")


def test_missing_boundary(caplog: pytest.LogCaptureFixture) -> None:
    for ask in (lambda s: s.prompt("Hi"), lambda s: s.chat([("user", "Hi")])):
        with pytest.raises(BoundaryError, match="no boundary between context and question"):
            ask(ServedTokens(3, on_missing_boundary="error"))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            ask(ServedTokens(3, on_missing_boundary="warn"))
        assert "no virtual tokens were used" in caplog.text
        assert ask(ServedTokens(0, on_missing_boundary="error")).k == 0


def test_impossible_values_are_refused() -> None:
    with pytest.raises(TokenCountError, match="k=-1"):
        ServedTokens(-1)
    with pytest.raises(TokenCountError, match="k='many'"):
        ServedTokens("many")
    with pytest.raises(SettingsError, match="on_missing_boundary='shout'"):
        ServedTokens(1, on_missing_boundary="shout")
    with pytest.raises(PromptError, match="not a regular expression"):
        ServedTokens(1, "(")


def test_needs_no_torch() -> None:
    source = "import sys, spring_integrations.prompts.served_text; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
