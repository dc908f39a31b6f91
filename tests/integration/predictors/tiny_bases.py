"""Random two-layer models with a tokenizer of a few words."""

# pyright: basic, reportMissingImports=false
# torch and transformers come from the engine's environment.

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, OPTConfig, OPTModel, PreTrainedTokenizerFast

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [*MARKS, "write", "a", "long", "essay", "on", "what", "is", "the", "number", "of"]


def make(directory: Path) -> None:
    """Write an encoder to `bert` and a decoder to `opt`."""
    torch.manual_seed(0)
    bert = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    opt = OPTConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=64,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
        pad_token_id=0,
    )
    for name, model in (("bert", BertModel(bert)), ("opt", OPTModel(opt))):
        model.save_pretrained(directory / name)
        tokenizer().save_pretrained(directory / name)


def tokenizer() -> PreTrainedTokenizerFast:
    """Splits at spaces; marks prompts as BERT does."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
