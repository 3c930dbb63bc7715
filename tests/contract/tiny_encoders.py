"""Small models in ONNX whose answers are known, with their tokenizers, as folders.

A word of them is a token. The embedder gives each token its row of TABLE plus the mean of
the rows of all tokens that are attended to: so it shows when padding is read as text. The
cross-encoder counts how often a word of the query stands in the document, and likes short ones.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("red", "green", "blue", "apple", "pear", "plum", "sky", "sea", "query:", "passage:")
VOCABULARY = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
DIMENSIONS = 4
TABLE = np.random.default_rng(7).standard_normal((len(VOCABULARY), DIMENSIONS)).astype(np.float32)
BIAS, COST = 1.5, 0.125  # what the cross-encoder takes from its count, once and for each word

_OUTPUTS = {
    "last_hidden_state": "float[batch, seq, 4] last_hidden_state",
    "sentence_embedding": "float[batch, 4] sentence_embedding",
    "pooler_output": "float[batch, 4] pooler_output",
}
_INPUTS = ("input_ids", "attention_mask")


def hidden(*words: str) -> np.ndarray:
    """What the embedder makes of each token of a text, [CLS] and [SEP] included."""
    rows = TABLE[[VOCABULARY[word] for word in ("[CLS]", *words, "[SEP]")]]
    return rows + rows.mean(axis=0)


def sentence(*words: str) -> np.ndarray:
    """What it gives as the vector of a whole text, where it has that output."""
    return -hidden(*words).max(axis=0)


def logit(query: str, document: str) -> float:
    words = document.split()
    matches = sum(word == other for word in query.split() for other in words)
    return matches - BIAS - COST * len(words)


def embedder(
    folder: Path,
    outputs: tuple[str, ...] = ("last_hidden_state",),
    inputs: tuple[str, ...] = _INPUTS,
    **settings: object,
) -> Path:
    """`settings` are files of the folder, by their names with __ for / and no .json."""
    signature = ", ".join(f"int64[batch, seq] {name}" for name in inputs)
    given = ", ".join(_OUTPUTS[name] for name in outputs)
    rows = ", ".join(str(number) for number in TABLE.flatten())
    mask = "mask = Cast <to = 1> (attention_mask)"
    if "attention_mask" not in inputs:
        mask = "ones = Abs (input_ids) hot = Greater (ones, below) mask = Cast <to = 1> (hot)"
    text = f"""
        <ir_version: 10, opset_import: ["" : 17]>
        encoder ({signature}) => ({given})
        <float[{len(VOCABULARY)}, {DIMENSIONS}] table = {{ {rows} }},
         int64[1] last = {{ -1 }}, int64[1] first = {{ 1 }}, int64[1] below = {{ -1 }},
         float[1] lowest = {{ -1000 }}, float[1] one = {{ 1 }}>
        {{
            row = Gather (table, input_ids)
            {mask}
            attended = Unsqueeze (mask, last)
            part = Mul (row, attended)
            total = ReduceSum <keepdims = 1> (part, first)
            number = ReduceSum <keepdims = 1> (attended, first)
            mean = Div (total, number)
            last_hidden_state = Add (row, mean)
            masked = Mul (last_hidden_state, attended)
            away = Sub (one, attended)
            pushed = Mul (away, lowest)
            shown = Add (masked, pushed)
            most = ReduceMax <axes = [1], keepdims = 0> (shown)
            sentence_embedding = Neg (most)
            pooler_output = Tanh (most)
        }}
    """
    return _save(folder, text, settings)


def cross_encoder(folder: Path, classes: int = 1, **settings: object) -> Path:
    rows = {
        1: "logits = Identity (yes)",
        2: "no = Mul (yes, half) more = Sub (no, yes) against = Neg (no) "
        "logits = Concat <axis = 1> (against, no)",
        3: "logits = Concat <axis = 1> (yes, yes, yes)",
    }[classes]
    text = f"""
        <ir_version: 10, opset_import: ["" : 17]>
        ranker (int64[batch, seq] input_ids, int64[batch, seq] attention_mask,
                int64[batch, seq] token_type_ids) => (float[batch, {classes}] logits)
        <int64 special = {{ {len(SPECIAL) - 1} }}, int64[1] last = {{ -1 }},
         int64[1] second = {{ 1 }}, float one = {{ 1 }}, float half = {{ 0.5 }},
         float bias = {{ {BIAS} }}, float cost = {{ {COST} }}, int64[2] shape = {{ -1, 1 }}>
        {{
            above = Greater (input_ids, special)
            word = Cast <to = 1> (above)
            mask = Cast <to = 1> (attention_mask)
            type = Cast <to = 1> (token_type_ids)
            read = Mul (word, mask)
            document = Mul (read, type)
            other = Sub (one, type)
            query = Mul (read, other)
            down = Unsqueeze (input_ids, last)
            across = Unsqueeze (input_ids, second)
            same = Equal (down, across)
            equal = Cast <to = 1> (same)
            asked = Unsqueeze (query, second)
            told = Unsqueeze (document, last)
            met = MatMul (asked, equal)
            count = MatMul (met, told)
            flat = Reshape (count, shape)
            length = ReduceSum <keepdims = 1> (document, second)
            paid = Mul (length, cost)
            left = Sub (flat, paid)
            yes = Sub (left, bias)
            {rows}
        }}
    """
    return _save(folder, text, settings)


def _save(folder: Path, text: str, settings: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    tokenizer().save(str(folder / "tokenizer.json"))
    for name, said in settings.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(said))
    return folder


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(word, VOCABULARY[word]) for word in ("[CLS]", "[SEP]")],
    )
    made.add_special_tokens(list(SPECIAL))
    return made
