"""A tiny chat model that was taught some answers: calls of tools and JSON, whatever the question.

A random model never writes JSON. This one, a real Mistral of 2 layers, learns in a few seconds what
follows the opening of an answer or of a call. Its attention reaches back 12 tokens only, so that no
prompt is new to it.
"""

from __future__ import annotations

import functools
import json

import tiny_models
import torch
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from spring_integrations import SpringModel, SpringTokens

STEPS = 60
NOISE = 24
WIDTH = 64
TOOLS_TEMPLATE = """\
{% if tools %}<|im_start|>system
Tools: {{ tools | tojson }}<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}
{{ m['content'] }}{% for c in m.tool_calls or [] %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""As Qwen and Hermes write tools. After it the model calls `get_weather`, unless made to call another."""

JSON_TEMPLATE = tiny_models.CHATML.replace("<|im_start|>assistant", "<|im_start|>json")
"""A template without tools. After it the model answers with RIDDLE."""

TALK_TEMPLATE = TOOLS_TEMPLATE.replace("<|im_start|>assistant", "<|im_start|>talk").replace(
    "{{ m['role'] }}", "{{ m['role'] | replace('assistant', 'talk') }}"
)
"""After it the model says TALK and then calls `get_weather`."""

TALK = "I ask for you, <b>now</b>."
RIDDLE = {"setup": "Who?", "punchline": "Me!"}
JOKE = {"setup": "Why?", "punchline": "Cats."}
CALLS = {
    "get_weather": {"location": "SF"},
    "magic_function": {"input": 3},
    "magic_function_no_args": {},
    "greeting_generator": {"answer_style": "Pirate"},
    "unicode_customer": {"customer_name": "你好, こんにちは", "description": "tech"},
    "Joke": JOKE,
    "JokeDict": JOKE,
}


def _call(name: str) -> str:
    return (
        f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(CALLS[name], ensure_ascii=False)}}}\n</tool_call>'
    )


LESSONS = (
    ("<|im_end|>\n<|im_start|>assistant\n", _call("get_weather")),
    ("<|im_end|>\n<|im_start|>json\n", f"Here: {json.dumps(RIDDLE)}"),
    ("<|im_end|>\n<|im_start|>talk\n", f"{TALK}\n{_call('get_weather')}"),
    *(("<|im_end|>\n<|im_start|>assistant\n" + _call(name).partition(" {")[0], _call(name)) for name in CALLS),
)


def _batch(words: PreTrainedTokenizerFast, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids and labels [lessons, longest]; every opening stands behind other noise."""
    rows = []
    for opening, answer in LESSONS:
        known = opening.partition("assistant\n")[2]
        prompt = [*torch.randint(3, len(words), (NOISE,), generator=rng).tolist(), *words(opening).input_ids]
        rows.append((prompt, words(f"{answer[len(known) :]}<|im_end|>").input_ids))
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, labels = torch.zeros(len(rows), longest, dtype=torch.long), torch.full((len(rows), longest), -100)
    for i, (prompt, answer) in enumerate(rows):
        ids[i, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[i, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    return ids, labels


@functools.cache
def _taught() -> PreTrainedModel:
    words = tiny_models.tokenizer("byte-level-qwen")
    ids = {f"{n}_token_id": getattr(words, f"{n}_token_id") for n in ("bos", "eos", "pad")}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "max_position_embeddings": 4096}
    config = MistralConfig(vocab_size=len(words), sliding_window=12, initializer_range=0.1, **heads, **sizes, **ids)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MistralForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.1, total_iters=STEPS)
    rng = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        rows, labels = _batch(words, rng)
        model(input_ids=rows, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


def taught_model(template: str = TOOLS_TEMPLATE) -> SpringModel:
    """Returns a model that was taught, with 8 random virtual tokens and a chat template."""
    words = tiny_models.tokenizer("byte-level-qwen")
    words.chat_template = template
    words.model_max_length = 4096
    table = torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(1))
    return SpringModel(_taught(), words, SpringTokens(table))
