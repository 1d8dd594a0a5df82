"""The demo backbone's tokenizer: MiniLM's WordPiece vocabulary with a decoder that restores spacing.

WordPiece splits at punctuation and forgets where the spaces were, so "1,000" decodes to "1 , 000".
Answers are compared as text, so the decoder puts such pieces together again. Every rule looks only at
the border between two tokens: decoding more tokens never changes the text of the earlier ones, which
is what streaming relies on.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, processors
from transformers import PreTrainedTokenizerFast

# (pattern on the decoded text, replacement), applied in this order.
_SPACING = [
    (r" (?=[,.;:!?%)\]}”])", ""),
    (r"(?<=[(\[{“$£€#@]) ", ""),
    (r"(?<=\w) (?=[-–—/_'’])", ""),
    (r"(?<=\w[-–—/_]) ", ""),
    (r"(?<=\w['’]) (?=(?:s|t|re|ve|ll|d|m)\b)", ""),
    (r"(?<=\b[odl]['’]) ", ""),
    (r"(?<=\d[,.:]) (?=\d)", ""),
    (r"(?<=\b[a-z]\.) (?=[a-z]\.|[a-z]$)", ""),
]


def build_tokenizer(minilm: Path) -> PreTrainedTokenizerFast:
    """Returns a fast tokenizer with [CLS] as beginning and [SEP] as end of sequence."""
    core = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    core.no_padding()
    core.no_truncation()
    cls = core.token_to_id("[CLS]")
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", cls)]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            *(decoders.Replace(Regex(pattern), text) for pattern, text in _SPACING),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="[CLS]",
        eos_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
