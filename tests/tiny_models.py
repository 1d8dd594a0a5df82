"""Tiny random causal language models of the supported families, each with a tokenizer trained here.

Weights are drawn wide (std 0.4), so that logits differ clearly between prompts and greedy text varies.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

POSITIONS = 512
WIDTH = 32
SENTENCES = (
    "[1] The first Nobel Prize in Physics was awarded to Wilhelm Conrad Röntgen in 1901.",
    "[2] Lima is the capital of Peru, and the river Rímac flows through it to the sea.",
    "[3] The passages before the question hold the context; the answer is a short name.",
    "Question: who got the first Nobel Prize in Physics?\nAnswer: Wilhelm Conrad Röntgen",
    "Query: what is the capital of Peru?\n\nHelpful Answer: Lima, 10 000 people; naïve café — 東京 🙂.",
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _train(core: Tokenizer, trainer: Any) -> Tokenizer:
    core.train_from_iterator([*SENTENCES, *"\n".join(SENTENCES).split("\n")], trainer)
    return core


def _prefix(core: Tokenizer, bos: str) -> None:
    core.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))]
    )


def byte_level(specials: tuple[str, ...], *, bos: str | None = None) -> Tokenizer:
    """Byte-level BPE, as GPT-2, Qwen and Llama 3 have it."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    _train(
        core,
        trainers.BpeTrainer(
            vocab_size=350, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
        ),
    )
    if bos:
        _prefix(core, bos)
    return core


def sentencepiece_bpe(specials: tuple[str, ...], *, bos: str, prepend: bool = True) -> Tokenizer:
    """SentencePiece BPE with byte fallback; the normalizer prepends a space as in Llama 2, or not as in Gemma."""
    space = normalizers.Replace(" ", "▁")
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space]) if prepend else space
    pieces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*pieces, decoders.Strip(" ", 1, 0)] if prepend else pieces)
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=390, special_tokens=[*specials, *bytes_], max_token_length=8, limit_alphabet=60, show_progress=False
    )
    state = json.loads(_train(core, trainer).to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in specials]
    state["model"] |= {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    core = Tokenizer.from_str(json.dumps(state))
    _prefix(core, bos)
    return core


def unigram(specials: tuple[str, ...], *, bos: str, scheme: str = "first") -> Tokenizer:
    """Unigram with the Metaspace pre-tokenizer."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    core.decoder = decoders.Metaspace(prepend_scheme=scheme)
    _train(
        core,
        trainers.UnigramTrainer(vocab_size=200, special_tokens=list(specials), unk_token="<unk>", show_progress=False),
    )
    _prefix(core, bos)
    return core


def wordpiece(specials: tuple[str, ...], *, bos: str) -> Tokenizer:
    """Lower-casing WordPiece, as in BERT."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    _train(core, trainers.WordPieceTrainer(vocab_size=300, special_tokens=list(specials), show_progress=False))
    _prefix(core, bos)
    return core


def _wrap(core: Tokenizer, **named: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=POSITIONS, clean_up_tokenization_spaces=False, **named
    )


def _llama3() -> PreTrainedTokenizerFast:
    bos, eos = "<|begin_of_text|>", "<|end_of_text|>"
    core = byte_level((bos, eos, "<|im_start|>", "<|im_end|>"), bos=bos)
    return _wrap(core, bos_token=bos, eos_token=eos, chat_template="{{ bos_token }}" + CHATML)


def _qwen() -> PreTrainedTokenizerFast:
    end = "<|endoftext|>"
    core = byte_level((end, "<|im_start|>", "<|im_end|>"))
    return _wrap(core, eos_token="<|im_end|>", pad_token=end, chat_template=CHATML)


def _gpt2() -> PreTrainedTokenizerFast:
    end = "<|endoftext|>"
    return _wrap(byte_level((end,)), bos_token=end, eos_token=end)


def _sentencepiece(make: Callable[..., Tokenizer], **options: Any) -> PreTrainedTokenizerFast:
    core = make(("<unk>", "<s>", "</s>"), bos="<s>", **options)
    return _wrap(core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _phi3() -> PreTrainedTokenizerFast:
    core = sentencepiece_bpe(("<unk>", "<s>", "<|endoftext|>"), bos="<s>")
    return _wrap(core, bos_token="<s>", eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token="<unk>")


def _gemma() -> PreTrainedTokenizerFast:
    core = sentencepiece_bpe(("<pad>", "<eos>", "<bos>", "<unk>"), bos="<bos>", prepend=False)
    return _wrap(core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")


def _bert() -> PreTrainedTokenizerFast:
    core = wordpiece(("[PAD]", "[UNK]", "[CLS]", "[SEP]"), bos="[CLS]")
    return _wrap(core, bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]")


_TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": _llama3,
    "byte-level-qwen": _qwen,
    "byte-level-gpt2": _gpt2,
    "prepend": lambda: _sentencepiece(sentencepiece_bpe),
    "prepend-phi3": _phi3,
    "no-prepend": _gemma,
    "metaspace-first": lambda: _sentencepiece(unigram),
    "metaspace-always": lambda: _sentencepiece(unigram, scheme="always"),
    "wordpiece": _bert,
}
TOKENIZER_KINDS = tuple(_TOKENIZERS)


@functools.cache
def _tokenizer_source(kind: str) -> tuple[str, dict[str, Any]]:
    made = _TOKENIZERS[kind]()
    names = ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template")
    return made.backend_tokenizer.to_str(), {n: v for n in names if (v := getattr(made, n)) is not None}


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Returns a fresh tokenizer of one of TOKENIZER_KINDS."""
    source, named = _tokenizer_source(kind)
    return _wrap(Tokenizer.from_str(source), **named)


_COMMON = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_GROUPED = {**_COMMON, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS}
# family: (config class, model class, tokenizer kind, what the config adds)
_FAMILIES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", "byte-level", _GROUPED),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", "byte-level-qwen", {**_GROUPED, "tie_word_embeddings": True}),
    "mistral": ("MistralConfig", "MistralForCausalLM", "metaspace-first", {**_GROUPED, "sliding_window": None}),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", "no-prepend", {**_GROUPED, "head_dim": 8}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", "no-prepend", {**_GROUPED, "head_dim": 8, "sliding_window": 64}),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        "byte-level-gpt2",
        {"n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS},
    ),
    "gpt_neox": (
        "GPTNeoXConfig",
        "GPTNeoXForCausalLM",
        "byte-level-gpt2",
        {**_COMMON, "max_position_embeddings": POSITIONS},
    ),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", "prepend-phi3", {**_GROUPED, "tie_word_embeddings": False}),
    "bert": (
        "BertConfig",
        "BertLMHeadModel",
        "wordpiece",
        {**_COMMON, "max_position_embeddings": POSITIONS, "is_decoder": True},
    ),
}
ARCHITECTURES = tuple(_FAMILIES)
# Families that training has to get right too.
_FAMILIES |= {
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", "byte-level-qwen", {**_GROUPED, "head_dim": 8}),
    "mistral-sliding": ("MistralConfig", "MistralForCausalLM", "metaspace-first", {**_GROUPED, "sliding_window": 16}),
    "gemma3": (
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        "no-prepend",
        {**_GROUPED, "head_dim": 8, "sliding_window": 64},
    ),
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        "byte-level-gpt2",
        {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": WIDTH, "max_position_embeddings": POSITIONS, "init_std": 0.4},
    ),
    "falcon": ("FalconConfig", "FalconForCausalLM", "byte-level-gpt2", {**_COMMON}),
    "mamba": (
        "MambaConfig",
        "MambaForCausalLM",
        "byte-level-gpt2",
        {"hidden_size": WIDTH, "num_hidden_layers": 2, "state_size": 8, "max_position_embeddings": POSITIONS},
    ),
    "mpt": (
        "MptConfig",
        "MptForCausalLM",
        "byte-level-gpt2",
        {"d_model": WIDTH, "n_layers": 2, "n_heads": 4, "max_seq_len": POSITIONS},
    ),
    "lfm2": (
        "Lfm2Config",
        "Lfm2ForCausalLM",
        "byte-level",
        {**_GROUPED, "layer_types": ["conv", "full_attention"], "block_ff_dim": 48},
    ),
}


def model(family: str, words: PreTrainedTokenizerFast, *, extra_rows: int = 0, seed: int = 0) -> PreTrainedModel:
    """Returns a random model; its embedding table has `extra_rows` more rows than the tokenizer."""
    config_class, model_class, _, settings = _FAMILIES[family]
    ids = {f"{n}_token_id": getattr(words, f"{n}_token_id") for n in ("bos", "eos", "pad")}
    config = getattr(transformers, config_class)(
        vocab_size=len(words) + extra_rows, initializer_range=0.4, **settings, **ids
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, model_class)(config).eval()


def build(family: str, kind: str | None = None, **options: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Returns a fresh model of a family and its tokenizer (of another kind, if one is named)."""
    words = tokenizer(kind or _FAMILIES[family][2])
    return model(family, words, **options), words
