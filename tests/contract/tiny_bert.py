"""A BERT of two layers as a GGUF file, made on the spot: llama.cpp embeds with it, or ranks.

Its weights are chance, always the same, and it reads letter by letter: it shows what goes over
the wire, never quality. So small a model answers at once on a busy machine, too.
"""

import string
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HIDDEN, LAYERS, WINDOW = 32, 64, 2, 512
_ALIGNMENT = 32
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_LETTERS = string.ascii_lowercase + string.digits + string.punctuation
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# At the beginning of a word a letter is another token than inside of it.
TOKENS = (*_SPECIAL, *(f"\u2581{each}" for each in _LETTERS), *_LETTERS)


def write(path: Path, ranks: bool) -> Path:
    tensors = _tensors(ranks)
    with path.open("wb") as file:
        values = _values(ranks)
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)))
        file.writelines(_string(name) + _value(each) for name, each in values.items())
        offset = 0
        for name, tensor in tensors.items():
            shape = tensor.shape[::-1]
            file.write(_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
            file.write(struct.pack("<IQ", 0, offset))  # numbers of 32 bits
            offset += _padded(tensor.nbytes)
        file.write(bytes(_padded(file.tell()) - file.tell()))
        for tensor in tensors.values():
            file.write(tensor.tobytes().ljust(_padded(tensor.nbytes), b"\0"))
    return path


def _values(ranks: bool) -> dict[str, Any]:
    return {
        "general.architecture": "bert",
        "bert.block_count": LAYERS,
        "bert.context_length": WINDOW,
        "bert.embedding_length": WIDTH,
        "bert.feed_forward_length": HIDDEN,
        "bert.attention.head_count": 2,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": 4 if ranks else 1,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3 if each in _SPECIAL else 1 for each in TOKENS],
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.mask_token_id": 4,
    }


def _tensors(ranks: bool) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(7)

    def weights(*shape: int) -> np.ndarray:
        return (chance.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32)

    def layer(name: str, wide: int, deep: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": weights(wide, deep), f"{name}.bias": weights(wide)}

    def norm(name: str) -> dict[str, np.ndarray]:
        ones = np.ones(WIDTH, np.float32)
        return {f"{name}.weight": ones, f"{name}.bias": ones * 0}

    found = {
        "token_embd.weight": weights(len(TOKENS), WIDTH),
        "position_embd.weight": weights(WINDOW, WIDTH),
        "token_types.weight": weights(2, WIDTH),
        **norm("token_embd_norm"),
    }
    for at in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            found |= layer(f"blk.{at}.{part}", WIDTH, WIDTH)
        found |= layer(f"blk.{at}.ffn_up", HIDDEN, WIDTH)
        found |= layer(f"blk.{at}.ffn_down", WIDTH, HIDDEN)
        found |= norm(f"blk.{at}.attn_output_norm") | norm(f"blk.{at}.layer_output_norm")
    if ranks:
        found |= layer("cls", WIDTH, WIDTH) | layer("cls.output", 1, WIDTH)
    return found


def _value(value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", _BOOL, value)
        case int():
            return struct.pack("<II", _UINT32, value)
        case float():
            return struct.pack("<If", _FLOAT32, value)
        case str():
            return struct.pack("<I", _STRING) + _string(value)
    return struct.pack("<I", _ARRAY) + _array(value)


def _array(values: Sequence[Any]) -> bytes:
    if isinstance(values[0], str):
        return struct.pack("<IQ", _STRING, len(values)) + b"".join(map(_string, values))
    return struct.pack(f"<IQ{len(values)}i", _INT32, len(values), *values)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
