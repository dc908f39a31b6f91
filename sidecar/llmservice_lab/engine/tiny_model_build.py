"""Make a tiny random-weight Llama with its own tokenizer, offline. Needs the engine's environment.

usage: python tiny_model_build.py DIRECTORY
"""

# pyright: basic, reportMissingImports=false
# torch and transformers exist in the engine's environment only.

from __future__ import annotations

import sys
from pathlib import Path
from pydoc_data import topics

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 4096
MAX_POSITION = 4096
PAD, BOS, EOS = 0, 1, 2
SPECIAL_TOKENS = ["<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer() -> Tokenizer:
    """A byte-level BPE of English prose and code: the language reference that ships with Python."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # ASCII alone: every merged token is then whole characters.
    text = (
        topics.topics[name].encode("ascii", "ignore").decode() for name in sorted(topics.topics)
    )
    tokenizer.train_from_iterator(text, trainer)
    return tokenizer


def unspeakable(tokenizer: Tokenizer) -> list[int]:
    """Ids that must not be generated: special tokens but end-of-text, and parts of characters."""
    ids = [PAD, BOS, *range(EOS + 1, len(SPECIAL_TOKENS))]
    for token, token_id in tokenizer.get_vocab().items():
        if token_id >= len(SPECIAL_TOKENS):
            piece = tokenizer.decode([token_id])
            if not piece.isascii() or not (piece.isprintable() or piece.isspace()) or not token:
                ids.append(token_id)
    return sorted(ids)


def make_model(tokenizer: Tokenizer) -> LlamaForCausalLM:
    """Random weights from a fixed seed; the same bytes on every machine with this torch."""
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # the smallest that vLLM's CPU attention supports
        max_position_embeddings=MAX_POSITION,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        # A zero logit never wins against thousands of random ones: answers stay readable text.
        model.lm_head.weight[unspeakable(tokenizer)] = 0
    model.generation_config.eos_token_id = EOS
    return model


def main() -> None:
    """Write tokenizer, configuration and weights to the directory named on the command line."""
    directory = Path(sys.argv[1])
    tokenizer = train_tokenizer()
    make_model(tokenizer).save_pretrained(directory)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL_TOKENS[PAD],
        bos_token=SPECIAL_TOKENS[BOS],
        eos_token=SPECIAL_TOKENS[EOS],
        model_max_length=MAX_POSITION,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(directory)


if __name__ == "__main__":
    main()
