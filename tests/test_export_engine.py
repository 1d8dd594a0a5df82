"""An export in a vLLM engine of this process gives SpringModel's answers.

vLLM is not among the tests' packages: a stand-in runs the same exports by transformers. `test_engines.py` runs vLLM.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from evaluation_kit import QUESTIONS, index
from test_export import saved
from transformers import AutoModelForCausalLM

from spring_integrations import SpringModel, SpringTokens
from spring_integrations.errors import (
    BackboneError,
    MissingExtraError,
    PromptTooLongError,
    SettingsError,
    TokenCountError,
    TokensError,
)
from spring_integrations.evaluation import evaluate, plain_systems, token_systems
from spring_integrations.export import EngineModel, export_checkpoint
from spring_integrations.langchain import SpringHFLLM
from spring_integrations.runtime.backbone import Backbone

PASSAGES = ["Lima is the capital of Peru.", "The river Rímac flows [ref2] there.", "Röntgen got </s> it."]


class StandIn(ModuleType):
    """`vllm`, as far as it is used: an engine over ids, greedy, by transformers."""

    def __init__(self) -> None:
        super().__init__("vllm")
        self.engines: list[dict] = []

    def LLM(self, model: str, **arguments: object) -> SimpleNamespace:  # noqa: N802 - vLLM's name
        if unknown := {*arguments} - {"max_model_len", "dtype"}:
            msg = f"unexpected {unknown}"
            raise TypeError(msg)
        self.engines.append(arguments)
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)

        def answer(ids: list[int], params: SimpleNamespace) -> SimpleNamespace:
            asked = torch.tensor([ids])
            made = loaded.generate(asked, attention_mask=torch.ones_like(asked), max_new_tokens=params.max_tokens)
            new = made[0, len(ids) :].tolist()
            ended = len(new) < params.max_tokens
            return SimpleNamespace(
                outputs=[SimpleNamespace(token_ids=new, finish_reason="stop" if ended else "length")]
            )

        def generate(prompts: list[dict], params: SimpleNamespace, *, use_tqdm: bool) -> list[SimpleNamespace]:
            assert not use_tqdm
            return [answer(prompt["prompt_token_ids"], params) for prompt in prompts]

        return SimpleNamespace(generate=generate)

    SamplingParams = SimpleNamespace


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn()
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


@pytest.fixture
def exported(tmp_path: Path, random_tokens: SpringTokens) -> Path:
    export_checkpoint(str(saved(tmp_path / "llama", "llama")), random_tokens, tmp_path / "merged")
    return tmp_path / "merged"


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "gpt2", "gpt_neox"])
def test_it_answers_as_the_local_model_does(
    vllm: StandIn, family: str, random_tokens: SpringTokens, tmp_path: Path
) -> None:
    folder = saved(tmp_path / family, family)
    export_checkpoint(str(folder), random_tokens, tmp_path / "merged")
    local = SpringModel(Backbone.load(str(folder)), tokens=random_tokens)
    engine = EngineModel.open(tmp_path / "merged")
    prompts = [local.prompt(PASSAGES[:n], f"what is {n}?") for n in (1, 2)]
    for k in (0, 3, None):
        got, expected = (m.generate([*prompts, "no passages"], k=k, max_new_tokens=6) for m in (engine, local))
        assert [(g.text, g.k, g.boundary) for g in got] == [(e.text, e.k, e.boundary) for e in expected]
    assert len(vllm.engines) == 1


def test_the_longest_prompt_leaves_out_passages_as_the_local_model_does(vllm: StandIn, exported: Path) -> None:
    engine = EngineModel.open(exported, engine={"max_model_len": 64})
    assert engine.window == 64
    (answer,) = engine.generate(engine.prompt(PASSAGES * 3, "where?"), max_new_tokens=4)
    assert answer.dropped_passages > 0
    assert answer.prompt_tokens <= 60
    with pytest.raises(PromptTooLongError, match="64 positions"):
        engine.generate("word " * 200, max_new_tokens=4)
    assert vllm.engines == [{"max_model_len": 64}]


def test_chains_and_copies_share_the_engine(vllm: StandIn, exported: Path, random_tokens: SpringTokens) -> None:
    engine = EngineModel.open(exported, k=2)
    prompt = engine.prompt(PASSAGES[:1], "where?")
    text = engine.generate(prompt, max_new_tokens=5)[0].text
    assert SpringHFLLM(model=engine, max_new_tokens=5).invoke(prompt.marked()) == text
    whole, answer = engine.stream(prompt, max_new_tokens=5)
    assert whole == answer.text == text
    other = engine.with_changes(k=8)
    assert isinstance(other, EngineModel)
    assert other.generate(prompt, max_new_tokens=5)[0].k == 8
    assert len(vllm.engines) == 1
    with pytest.raises(TokensError, match="exported with other virtual tokens"):
        engine.with_changes(tokens=random_tokens.first(3))


def test_settings_reach_the_engine(vllm: StandIn, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = EngineModel.open(exported), []
    monkeypatch.setattr(vllm, "SamplingParams", lambda **given: asked.append(given) or SimpleNamespace(**given))
    engine.generate("Lima", max_new_tokens=3, temperature=0.5, top_p=0.9, top_k=7, stop="x", seed=4)
    engine.generate("Lima", max_new_tokens=3)
    sampled = {"temperature": 0.5, "top_k": 7, "top_p": 0.9, "seed": 4}
    assert asked[0] == {"max_tokens": 3, "repetition_penalty": 1.0, "stop": ["x"], **sampled}
    assert (asked[1]["temperature"], asked[1]["top_k"], asked[1]["top_p"], asked[1]["seed"]) == (0.0, 0, 1.0, None)
    with pytest.raises(SettingsError, match="num_beams=2"):
        engine.generate("Lima", num_beams=2)
    with pytest.raises(SettingsError, match="load the backbone with SpringModel"):
        engine.score("Lima", ["x"])


def test_what_it_is_not_given_is_said(
    vllm: StandIn, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackboneError, match=r"llama' is no export, as it has no readable spring_export\.json"):
        EngineModel.open(tmp_path / "llama")
    with pytest.raises(SettingsError, match=r"EngineModel\.open\(folder\)"):
        EngineModel.from_pretrained(str(tmp_path / "llama"))
    with pytest.raises(TokenCountError, match="k=9"):
        EngineModel.open(exported, k=9)
    with pytest.raises(SettingsError, match=r"does not start on .*'nonsense': 1.*unexpected"):
        EngineModel.open(exported, engine={"nonsense": 1}).generate("Lima")
    monkeypatch.setitem(sys.modules, "vllm", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match="pip install vllm"):
        EngineModel.open(exported).generate("Lima")


def test_it_is_evaluated_as_any_system(vllm: StandIn, exported: Path, tmp_path: Path) -> None:
    local = SpringModel.from_pretrained(str(tmp_path / "llama"))
    local = local.with_changes(tokens=EngineModel.open(exported).tokens)

    def answers(model: SpringModel, out: Path) -> list[str]:
        systems = [*plain_systems(model, max_new_tokens=4), *token_systems(model, "SPRING", (2, 8), max_new_tokens=4)]
        run = evaluate(QUESTIONS, systems, out, retrievers={"bm25": index()}, passages=(1,))
        return [prediction.text for _, prediction in sorted(run.predictions().items())]

    assert answers(EngineModel.open(exported), tmp_path / "engine") == answers(local, tmp_path / "local")
    assert len(vllm.engines) == 1
