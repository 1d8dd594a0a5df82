"""Models with a vocabulary of five, small enough to enumerate everything that they can say, and tiny BART and T5."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import tiny_models
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from spring_integrations import Passage, RagPrompt, SpringTokens

WORDS = ("<unk>", "a", "b", "c", "</s>")
END = 4
LENGTH = 4
WIDTH = 16
# All answers: those that end, and those that are cut off at the longest length.
ANSWERS = [
    ids
    for length in range(1, LENGTH + 1)
    for ids in itertools.product(range(5), repeat=length)
    if END not in ids[:-1] and (ids[-1] == END or length == LENGTH)
]
PASSAGES = (
    Passage("a b c a", id="p0", score=1.0),
    Passage("c", id="p1", score=0.4),
    Passage("b b a c b b a", id="p2", score=1.3),
)
QUESTION = "c a"


def write(passage: Passage, question: str) -> RagPrompt:
    """Returns a prompt in the words of the five."""
    return RagPrompt(f"{passage.text} ", question, "explicit")


def five_words() -> PreTrainedTokenizerFast:
    """Returns a tokenizer of five words, "</s>" among them."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>", model_max_length=64)


def five_word_llama() -> PreTrainedModel:
    """Returns a random Llama over the five words."""
    config = LlamaConfig(
        vocab_size=5,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.7,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=None,
    )
    return _seeded(LlamaForCausalLM, config, 3)


def five_word_t5() -> PreTrainedModel:
    """Returns a random T5 over the five words."""
    return t5(5, d_model=WIDTH, eos_token_id=END, initializer_factor=0.7)


def bart(vocabulary: int, **settings: Any) -> PreTrainedModel:
    """Returns a random BART, whose encoder scales its embeddings."""
    config = BartConfig(
        **{
            "vocab_size": vocabulary,
            "d_model": tiny_models.WIDTH,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "max_position_embeddings": 512,
            "scale_embedding": True,
            "init_std": 0.3,
            "forced_eos_token_id": None,
        }
        | settings
    )
    return _seeded(BartForConditionalGeneration, config, 0)


def t5(vocabulary: int, **settings: Any) -> PreTrainedModel:
    """Returns a random T5."""
    config = T5Config(
        **{
            "vocab_size": vocabulary,
            "d_model": tiny_models.WIDTH,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 2,
            "num_heads": 2,
            "initializer_factor": 2.0,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
        }
        | settings
    )
    return _seeded(T5ForConditionalGeneration, config, 0)


def seq2seq_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Returns a tokenizer that writes "<s> text </s>", as BART's does, or "text </s>", as T5's."""
    specials = {"bart": ("<s>", "<pad>", "</s>", "<unk>"), "t5": ("<pad>", "</s>", "<unk>")}[kind]
    core = tiny_models.byte_level(specials)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if kind == "bart" else "$A </s>",
        special_tokens=[(name, core.token_to_id(name)) for name in specials],
    )
    names = {"bos_token": "<s>"} if kind == "bart" else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=tiny_models.POSITIONS,
        clean_up_tokenization_spaces=False,
        **names,
    )


def _seeded(cls: Any, config: Any, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(config).eval()


@dataclass(frozen=True)
class Enumerated:
    """log p(y_i|x,z,y_<i) of every answer, token by token: [answers, K, LENGTH], 0 behind an answer's end."""

    prior: Tensor
    tokens: Tensor

    def rag_sequence(self) -> Tensor:
        """Returns p(y|x) of every answer by RAG-Sequence's definition."""
        return (self.prior * self.tokens.sum(-1).exp()).sum(-1)

    def rag_token(self) -> Tensor:
        """Returns p(y|x) of every answer by RAG-Token's definition."""
        return (self.prior[:, None] * self.tokens.exp()).sum(1).prod(-1)

    def best(self, probabilities: Tensor) -> tuple[tuple[int, ...], float]:
        """Returns the likeliest answer and its log-probability."""
        at = int(probabilities.argmax())
        return ANSWERS[at], float(probabilities[at].log())


def enumerated(model: PreTrainedModel, passages: tuple[Passage, ...], tokens: SpringTokens | None) -> Enumerated:
    """Runs every answer after every prompt, without a cache, padding or our embedding wrapper."""
    words = five_words()
    embedding = model.get_input_embeddings()
    embed = getattr(embedding, "base", embedding)
    table = torch.zeros(len(ANSWERS), len(passages), LENGTH, dtype=torch.float64)
    padded = torch.tensor([[*ids, *[0] * (LENGTH - len(ids))] for ids in ANSWERS])
    written = torch.tensor([[i < len(ids) for i in range(LENGTH)] for ids in ANSWERS])
    for z, passage in enumerate(passages):
        before, after = (embed(torch.tensor(words(text).input_ids)) for text in (passage.text, QUESTION))
        middle = tokens.embeddings if tokens is not None else before[:0]
        prompt = torch.cat([before, middle, after]).expand(len(ANSWERS), -1, -1)
        with torch.no_grad():
            logits = _logits(model, prompt, padded[:, :-1])
        chosen = logits.double().log_softmax(-1).gather(2, padded[..., None])[..., 0]
        table[:, z] = chosen.masked_fill(~written, 0)
    scores = torch.tensor([p.score for p in passages], dtype=torch.float64)
    return Enumerated(scores.softmax(0), table)


def _logits(model: PreTrainedModel, prompt: Tensor, ids: Tensor) -> Tensor:
    """Returns the logits before and behind each id that follows the prompt's vectors."""
    if model.config.is_encoder_decoder:
        start = torch.full_like(ids[:, :1], model.config.decoder_start_token_id)
        return model(inputs_embeds=prompt, decoder_input_ids=torch.cat([start, ids], dim=1)).logits
    inputs = torch.cat([prompt, model.get_input_embeddings()(ids)], dim=1)
    return model(inputs_embeds=inputs).logits[:, prompt.shape[1] - 1 :]
