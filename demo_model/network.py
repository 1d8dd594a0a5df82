"""One pass over a context serves all the questions asked about it.

A row is a context and the question blocks that follow it. Block tokens see the whole context and
their own block; every block starts at the position after the context. That is what the model sees
when one question follows the context, so nothing has to be unlearned, and a context with twelve
questions is encoded once instead of twelve times.

The forward pass works on a flat list of tokens (no padding between rows) with the weights of a
transformers `BertLMHeadModel`; `tests/test_demo_model.py` holds it against the model itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertLMHeadModel


@dataclass(frozen=True)
class Row:
    """A context and its question blocks; labels are -100 where nothing is to be predicted."""

    context: list[int]
    context_labels: list[int] | None
    blocks: list[list[int]]
    block_labels: list[list[int]]
    weight: float = 1.0


@dataclass(frozen=True)
class Batch:
    """Rows as flat tensors: all contexts first, then all blocks (padded within their row).

    Attributes:
        ids, positions: [tokens].
        context_lengths: one number per row.
        block_shapes: (blocks, padded length) per row.
        targets, weights: [predictions]; the prediction at flat index `predict_at[i]` is `targets[i]`.
    """

    ids: Tensor
    positions: Tensor
    context_lengths: list[int]
    block_shapes: list[tuple[int, int]]
    predict_at: Tensor
    targets: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Batch:
        """Returns the batch with its tensors on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)


def padded_size(row: Row) -> int:
    """Returns the number of tokens that the row costs."""
    longest = max((len(b) for b in row.blocks), default=0)
    return len(row.context) + longest * len(row.blocks)


def collate(rows: list[Row]) -> Batch:
    """Lays rows out flat."""
    ids: list[int] = []
    positions: list[int] = []
    predict_at: list[int] = []
    targets: list[int] = []
    weights: list[float] = []

    def add(tokens: list[int], labels: list[int] | None, start: int, length: int, weight: float) -> None:
        if labels is not None:
            for i, label in enumerate(labels[1:]):
                if label != -100:
                    predict_at.append(len(ids) + i)
                    targets.append(label)
                    weights.append(weight)
        ids.extend(tokens + [0] * (length - len(tokens)))
        positions.extend(range(start, start + length))

    for row in rows:
        add(row.context, row.context_labels, 0, len(row.context), row.weight)
    shapes = []
    for row in rows:
        longest = max((len(b) for b in row.blocks), default=0)
        shapes.append((len(row.blocks), longest))
        for block, labels in zip(row.blocks, row.block_labels, strict=True):
            add(block, labels, len(row.context), longest, row.weight)
    return Batch(
        ids=torch.tensor(ids),
        positions=torch.tensor(positions),
        context_lengths=[len(row.context) for row in rows],
        block_shapes=shapes,
        predict_at=torch.tensor(predict_at),
        targets=torch.tensor(targets),
        weights=torch.tensor(weights),
    )


class _BlockAttention(torch.autograd.Function):
    """softmax([q kc', q k' + causal]) [vc, v] with hand-written gradient.

    On CPU this is about three times as fast as `scaled_dot_product_attention` at head size 32, where
    the softmax and not the products take the time.
    """

    @staticmethod
    def forward(ctx, q, k, v, kc, vc):  # type: ignore[no-untyped-def]
        # q, k, v: [heads, blocks, length, size]; kc, vc: [heads, context, size]; q is scaled
        heads, blocks, length, size = q.shape
        n = kc.shape[1]
        flat = q.reshape(heads, blocks * length, size)
        hidden = torch.full((length, length), -1e4, dtype=q.dtype, device=q.device).triu(1)
        own = torch.baddbmm(
            hidden.expand(heads * blocks, length, length),
            q.reshape(-1, length, size),
            k.reshape(-1, length, size).transpose(1, 2),
        ).view(heads, blocks * length, length)
        p = (torch.cat([torch.bmm(flat, kc.transpose(1, 2)), own], dim=-1) if n else own).softmax(-1)
        po = p[..., n:].reshape(heads * blocks, length, length)
        out = torch.bmm(po, v.reshape(-1, length, size)).view(heads, blocks * length, size)
        if n:
            out += torch.bmm(p[..., :n], vc)
        ctx.save_for_backward(q, k, v, kc, vc, p)
        return out.view(heads, blocks, length, size)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        q, k, v, kc, vc, p = ctx.saved_tensors
        heads, blocks, length, size = q.shape
        n = kc.shape[1]
        g = grad.contiguous().view(heads, blocks * length, size)
        gb = g.view(heads * blocks, length, size)
        po = p[..., n:].reshape(heads * blocks, length, length)
        dv = torch.bmm(po.transpose(1, 2), gb).view_as(v)
        dpo = torch.bmm(gb, v.reshape(-1, length, size).transpose(1, 2)).view(heads, blocks * length, length)
        dp = torch.cat([torch.bmm(g, vc.transpose(1, 2)), dpo], dim=-1) if n else dpo
        ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
        dso = ds[..., n:].reshape(heads * blocks, length, length)
        dq = torch.bmm(dso, k.reshape(-1, length, size)).view(heads, blocks * length, size)
        dk = torch.bmm(dso.transpose(1, 2), q.reshape(-1, length, size)).view_as(k)
        dkc = dvc = None
        if n:
            dq += torch.bmm(ds[..., :n], kc)
            dkc = torch.bmm(ds[..., :n].transpose(1, 2), q.reshape(heads, blocks * length, size))
            dvc = torch.bmm(p[..., :n].transpose(1, 2), g)
        return dq.view_as(q), dk, dv, dkc, dvc


def _attend(qkv: Tensor, heads: int, batch: Batch) -> Tensor:
    """Self-attention of every row. qkv: [tokens, 3 x width] -> [tokens, width]."""
    width = qkv.shape[1] // 3
    size = width // heads
    contexts, blocks = [], []
    at, at_block = 0, sum(batch.context_lengths)
    for length, (count, longest) in zip(batch.context_lengths, batch.block_shapes, strict=True):
        part = qkv[at : at + length].view(1, length, 3, heads, size)
        at += length
        q, k, v = part.permute(2, 3, 0, 1, 4).contiguous()
        empty = k[:, 0, :0]
        out = _BlockAttention.apply(q * (1 / math.sqrt(size)), k, v, empty, empty)
        contexts.append(out.permute(1, 2, 0, 3).reshape(length, width))
        if count:
            part = qkv[at_block : at_block + count * longest].view(count, longest, 3, heads, size)
            at_block += count * longest
            kc, vc = k[:, 0], v[:, 0]
            q, k, v = part.permute(2, 3, 0, 1, 4).contiguous()
            out = _BlockAttention.apply(q * (1 / math.sqrt(size)), k, v, kc, vc)
            blocks.append(out.permute(1, 2, 0, 3).reshape(count * longest, width))
    return torch.cat(contexts + blocks)


def hidden_states(model: BertLMHeadModel, batch: Batch, dropout: float = 0.0) -> Tensor:
    """Returns the last hidden states [tokens, width] in bfloat16."""
    bert, low = model.bert, torch.bfloat16
    emb = bert.embeddings
    x = F.embedding(batch.ids, emb.word_embeddings.weight)
    x = x + F.embedding(batch.positions, emb.position_embeddings.weight) + emb.token_type_embeddings.weight[0]
    x = _norm(x.to(low), emb.LayerNorm)
    heads = model.config.num_attention_heads
    for layer in bert.encoder.layer:
        att = layer.attention
        parts = (att.self.query, att.self.key, att.self.value)
        weight = torch.cat([p.weight for p in parts]).to(low)
        bias = torch.cat([p.bias for p in parts]).to(low)
        y = _linear(_attend(F.linear(x, weight, bias), heads, batch), att.output.dense)
        x = _norm(x + F.dropout(y, dropout), att.output.LayerNorm)
        y = _linear(F.gelu(_linear(x, layer.intermediate.dense)), layer.output.dense)
        x = _norm(x + F.dropout(y, dropout), layer.output.LayerNorm)
    return x


def loss(model: BertLMHeadModel, batch: Batch, dropout: float = 0.0) -> Tensor:
    """Returns the weighted mean cross-entropy of the predictions; the head runs only where one is made."""
    x = hidden_states(model, batch, dropout)[batch.predict_at]
    head = model.cls.predictions
    x = _norm(F.gelu(_linear(x, head.transform.dense)), head.transform.LayerNorm)
    logits = F.linear(x, model.bert.embeddings.word_embeddings.weight.to(x.dtype), head.bias.to(x.dtype))
    each = F.cross_entropy(logits.float(), batch.targets, reduction="none")
    return (each * batch.weights).sum() / batch.weights.sum()


def _linear(x: Tensor, layer: torch.nn.Linear) -> Tensor:
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def _norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, layer.weight.to(x.dtype), layer.bias.to(x.dtype), layer.eps)
