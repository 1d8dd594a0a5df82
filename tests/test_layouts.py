"""Training shows an example in the very prompts that LangChain's and LlamaIndex's classes send to the model."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_classic.chains import RetrievalQA
from langchain_classic.chains.question_answering import stuff_prompt
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from llama_index.core.prompts import chat_prompts, default_prompts
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from spring_integrations import RagPrompt, SpringModel, SpringTokens
from spring_integrations.chat.layouts import Layouts
from spring_integrations.errors import PromptError, SettingsError
from spring_integrations.evaluation.systems import PromptedSystem
from spring_integrations.langchain import ChatSpringHF, SpringRetriever
from spring_integrations.langchain import SpringHFLLM as LangChainLLM
from spring_integrations.llama_index import SpringHFLLM as LlamaIndexLLM
from spring_integrations.llama_index import SpringRetriever as LlamaIndexRetriever
from spring_integrations.prompts.stock import CHATS, LAYOUTS, STOCK_PROMPTS, StockName
from spring_integrations.runtime import generation
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.training import Example, TrainConfig, TrainingSet, train
from spring_integrations.training.joint import JointConfig
from spring_integrations.training.layouts import PromptWriter
from spring_integrations.training.objective import encode_example
from spring_integrations.training.validation import Validation

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")

PASSAGES = ["Lima is the capital of Peru.", "The river flows to the sea. </s>[ref2] Question: who?", "A name is short."]
QUESTION = "what is the capital of Peru?"
K = 5
GEMMA_LIKE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA2_LIKE = (
    "{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') }}"
    "{{ m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
TEMPLATES = {"llama": None, "qwen2": None, "gemma": GEMMA_LIKE, "mistral": LLAMA2_LIKE, "gpt2": tiny_models.CHATML}


def backbone(family: str) -> Backbone:
    model, tokenizer = tiny_models.build(family)
    tokenizer.chat_template = TEMPLATES[family] or tokenizer.chat_template
    return Backbone(model, tokenizer, family)


class _Nodes(BaseRetriever):
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(text=p), score=1.0) for p in PASSAGES]


def _langchain(model: SpringModel, *, chat: bool) -> None:
    llm = (ChatSpringHF if chat else LangChainLLM)(model=model)
    found = RunnableLambda(lambda _: [Document(page_content=p) for p in PASSAGES])
    retriever = SpringRetriever(retriever=found, special_tokens=llm.special_tokens)
    RetrievalQA.from_chain_type(llm, retriever=retriever).invoke({"query": QUESTION})


def _llama_index(model: SpringModel, *, chat: bool) -> None:
    llm = LlamaIndexLLM(model=model, is_chat_model=chat)
    retriever = LlamaIndexRetriever(_Nodes(), special_tokens=llm.special_tokens)
    RetrieverQueryEngine.from_args(retriever, llm=llm).query(QUESTION)


ASKED: dict[StockName, tuple[Callable[..., None], bool]] = {
    "langchain": (_langchain, False),
    "langchain-chat": (_langchain, True),
    "llama-index": (_llama_index, False),
    "llama-index-chat": (_llama_index, True),
}


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("name", ASKED)
def test_training_shows_the_ids_that_the_framework_asks_with(
    name: StockName, family: str, random_tokens: SpringTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, chat = ASKED[name]
    shared = backbone(family)
    if not chat:  # LlamaIndex splits a context that does not fit with room to spare
        shared.model.config.max_position_embeddings = 4096
    model = SpringModel(shared, tokens=random_tokens, k=K).with_changes(
        settings=generation.GenerationSettings(max_new_tokens=2)
    )
    asked: list[list[int]] = []
    real = generation.generate

    def spy(shared: Backbone, rows: Sequence[list[int]], *args, **kwargs):
        asked.extend(rows)
        return real(shared, rows, *args, **kwargs)

    monkeypatch.setattr(generation, "generate", spy)
    ask(model, chat=chat)
    virtual = shared.virtual_ids(random_tokens, K)
    prompt = Layouts.of(shared, chat=chat).stock(name, PASSAGES, QUESTION)
    shown = encode_example(shared, prompt, "Lima", virtual)
    assert [shown.before + list(virtual) + shown.after[: -shown.answer_length]] == asked
    assert shown.after[-1] in shared.eos_ids
    answer = shared.tokenizer.decode(shown.after[-shown.answer_length :], skip_special_tokens=True)
    assert answer.strip() == "Lima"
    if chat and prompt.text.endswith("\n"):
        assert answer == "Lima", "the template writes the white space before an answer"


def test_stock_prompts_are_those_of_the_installed_frameworks() -> None:
    filled = {name: [t.format(context="CONTEXT", question="Q?") for _, t in STOCK_PROMPTS[name]] for name in ASKED}
    langchain = {"context": "CONTEXT", "question": "Q?"}
    llama_index = {"context_str": "CONTEXT", "query_str": "Q?"}
    assert filled["langchain"] == [stuff_prompt.PROMPT.format(**langchain)]
    messages = stuff_prompt.CHAT_PROMPT.format_messages(**langchain)
    assert filled["langchain-chat"] == [m.content for m in messages]
    assert filled["llama-index"] == [default_prompts.DEFAULT_TEXT_QA_PROMPT.format(**llama_index)]
    messages = chat_prompts.CHAT_TEXT_QA_PROMPT.format_messages(**llama_index)
    assert filled["llama-index-chat"] == [m.content for m in messages]


@settings(max_examples=40)
@given(question=st.text(min_size=1).filter(str.strip), passages=st.lists(st.text(), min_size=1, max_size=4))
def test_any_text_has_its_boundary_before_the_question(question: str, passages: list[str]) -> None:
    for name in ("langchain", "llama-index"):
        prompt = Layouts().stock(name, passages, question)
        assert prompt.boundary is not None
        assert len(prompt.passage_ends) == len(passages)
        assert prompt.after.endswith(("\nHelpful Answer:", "\nAnswer: "))


def test_the_end_of_a_chat_answer_is_the_templates_end_of_turn() -> None:
    shared = backbone("llama")
    end, turn = (shared.tokenizer.convert_tokens_to_ids(t) for t in ("<|end_of_text|>", "<|im_end|>"))
    chat, text = (Layouts.of(shared, chat=True).stock(n, PASSAGES, QUESTION) for n in ("langchain-chat", "langchain"))
    shared.model.generation_config.eos_token_id = [end, turn]
    assert encode_example(shared, chat, "Lima", range(1000, 1001)).after[-1] == turn
    assert encode_example(shared, text, "Lima", range(1000, 1001)).after[-1] == end
    shared.model.generation_config.eos_token_id = end
    assert encode_example(shared, chat, "Lima", range(1000, 1001)).after[-1] == end, (
        "generation does not stop at a turn"
    )


def test_each_visit_draws_its_layout_from_seed_and_index() -> None:
    shared = backbone("llama")
    config = TrainConfig(layouts=LAYOUTS, epochs=400, seed=3, num_passages=2)
    examples = [Example(QUESTION, ("Lima",), tuple(PASSAGES))]
    first, second = (TrainingSet(examples, config, PromptWriter.of(shared, LAYOUTS)) for _ in range(2))
    shown = [first[i].prompt for i in range(400)]
    assert shown == [second[i].prompt for i in reversed(range(400))][::-1]
    heads = Counter(p.text.removeprefix("<|begin_of_text|>")[:50].partition(" ")[0] for p in shown)
    assert set(heads) == {"[1]", "Use", "Context", "<|im_start|>system\nUse", "<|im_start|>system\nYou"}
    chats = heads.pop("<|im_start|>system\nUse") + heads.pop("<|im_start|>system\nYou")
    assert all(70 < count < 130 for count in (chats, *heads.values()))
    alone = TrainingSet(examples, dataclasses.replace(config, layouts=("paper",)))
    assert [d.target for d in map(alone.__getitem__, range(9))] == [first[i].target for i in range(9)]


def test_held_out_examples_take_the_layouts_in_turn() -> None:
    shared = backbone("llama")
    examples = [Example(f"question {i}", ("Lima",), tuple(PASSAGES)) for i in range(8)]
    asked: list[RagPrompt] = []

    class Recorder:
        def answer(self, given: Sequence, max_new_tokens: int) -> list[str]:
            asked.extend(a.prompt for a in given)
            return [""] * len(given)

    held_out = Validation(Recorder(), examples, TrainConfig(layouts=LAYOUTS), PromptWriter.of(shared, LAYOUTS))
    held_out.measure(0, 2)
    held_out.measure(1, 2)
    rules = ["explicit", "langchain-stuff", "llama-index-qa", "last-turn", "explicit", "langchain-stuff"]
    found = {p.after.partition("question ")[2][0]: p.boundary for p in asked}
    assert [found[str(i)] for i in range(8)] == [*rules, "llama-index-qa", "llama-index-qa"]


def test_small_k_come_more_often_when_drawn_log_uniformly() -> None:
    data = TrainingSet([Example("q", ("a",), ("p",))], TrainConfig(n=50, k_draw="log-uniform", epochs=16000))
    counts = Counter(data[i].ks[0] for i in range(0, 16000, 8))
    assert set(counts) <= set(range(1, 51))
    assert 0.14 < counts[1] / 2000 < 0.21
    assert 0.55 < sum(counts[k] for k in range(1, 11)) / 2000 < 0.67


def test_a_sandwich_has_all_tokens_in_every_step() -> None:
    config = TrainConfig(n=50, k_draw="sandwich", k_samples=2, epochs=16000)
    data = TrainingSet([Example("q", ("a",), ("p",))], config)
    steps = [data[i].ks for i in range(0, 16000, 8)]
    assert {ks[0] for ks in steps} == {50}
    assert {len(ks) for ks in steps} == {2}
    assert 0.14 < Counter(ks[1] for ks in steps)[1] / 2000 < 0.21
    with pytest.raises(SettingsError, match="k_samples=1; give 2 or more"):
        TrainConfig(k_draw="sandwich")


def test_all_layouts_train_and_are_evaluated(tmp_path: Path) -> None:
    examples = [Example(QUESTION, ("Lima",), tuple(PASSAGES)), Example("where is the river", ("Peru",), ("In Peru.",))]
    config = TrainConfig(n=4, epochs=8, batch_size=2, learning_rate=0.05, layouts=LAYOUTS, max_new_tokens=2)
    result = train(backbone("llama"), examples, config, tmp_path, validation=examples)
    tokens = SpringTokens.load(result.path)
    assert tokens.metadata.training["layouts"] == list(LAYOUTS)
    assert "llama-index, chat" in (tmp_path / "README.md").read_text(encoding="utf-8")
    model = SpringModel(backbone("llama"), tokens=tokens)
    for name in CHATS:
        system = PromptedSystem(name, model, name, k=4, prompt=name, max_new_tokens=2)
        assert len(system.answer([_question()], [PASSAGES])) == 1


def _question():
    from spring_integrations.evaluation.questions import Question

    return Question("1", QUESTION, ("Lima",), "nq")


def test_impossible_layouts_are_refused(tmp_path: Path) -> None:
    for layouts in ((), ("paper", "paper"), ("haystack",)):
        with pytest.raises(SettingsError, match="must be some of 'paper', 'langchain', 'llama-index', 'chat', each"):
            TrainConfig(layouts=layouts)
    with pytest.raises(SettingsError, match="joint training has the paper's layout only"):
        JointConfig(layouts=("langchain",))
    bare = Backbone(*tiny_models.build("gpt2"))
    with pytest.raises(PromptError, match="has no chat template"):
        train(bare, [Example("q", ("a",), ("p",))], TrainConfig(n=2, layouts=("chat",)), tmp_path)
    with pytest.raises(SettingsError, match="'langchain-chat' is a chat"):
        Layouts().stock("langchain-chat", PASSAGES, QUESTION)
    with pytest.raises(PromptError, match="the question is empty"):
        Layouts().stock("langchain", PASSAGES, " ")


def test_a_run_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    examples = [Example(QUESTION, ("Lima",), tuple(PASSAGES))]
    config = TrainConfig(n=2, epochs=4, batch_size=1, save_steps=2)
    whole = SpringTokens.load(train(backbone("llama"), examples, config, tmp_path).path).embeddings
    file = tmp_path / "train_config.json"
    text = file.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if '"k_draw"' not in line]
    file.write_text("\n".join(lines), encoding="utf-8")
    again = train(backbone("llama"), examples, config, tmp_path)
    assert torch.equal(SpringTokens.load(again.path).embeddings, whole)
    with pytest.raises(SettingsError, match="k_draw: 'uniform' -> 'log-uniform'"):
        train(backbone("llama"), examples, dataclasses.replace(config, k_draw="log-uniform"), tmp_path)
