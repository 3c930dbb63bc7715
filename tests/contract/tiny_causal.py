"""A language model that knows a few answers by heart, in a folder as the real ones have it.

What it says next is looked up by two things: the last token, and the last topic that was
mentioned. The topic it finds in its key cache: an answer that goes on with somebody else's
cache goes wrong.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

BEGIN, END = "<|assistant|>", "<|end|>"
CALL = '{"name": "calculator", "arguments": {"expression": "2+3"}}'
# Topic -> what is said, token by token. No token twice: the last one says where we are.
STORIES: dict[str, Sequence[str]] = {
    "count": ("one", " two", " three", " four", " five", END),
    "greet": ("Good", " morning", ",", " Ada", ".", END),
    "letters": ("\u00e9", "\U0001f98a", END),  # bytes, which are tokens here
    "sing": ("la", " la"),  # and so on, for ever
    "think": ("<think>", "hm", "</think>", "\n\n", "yes", END),
    "reckon": ("<tool_call>", CALL, "</tool_call>", END),
    "5": ("It is", " five", END),  # to the result of that call
    "emulate": ('{"tool": "calculator", "arguments": {"expression": "2+3"}}', END),
}
DICE = ("dice", ("1", "2", "3", "4", "5", "6"))  # one of them, by chance
STUTTER = ("stutter", "ba", "bo")  # "ba" again and again, though "bo" is nearly as likely
_SPECIAL = (END, BEGIN, "<|system|>", "<|user|>", "<|tool|>")
TEMPLATE = """\
{%- if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif -%}
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.content }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{{ {"name": call.function.name, "arguments": call.function.arguments} | tojson }}\
</tool_call>
{%- endfor -%}
<|end|>
{%- endfor -%}
{%- if add_generation_prompt %}<|assistant|>{% endif -%}
"""
_SURE, _NEARLY, _LAST, _NEVER = 10.0, 9.5, -20.0, -40.0  # logits


def build(folder: Path, window: int = 100_000, work: int = 0, template: str = TEMPLATE) -> Path:
    """`work` makes every step slower: the sides of a matrix that is multiplied."""
    tokens = write_tokenizer(folder, template)
    onnx.save(_model(tokens, work), folder / "model.onnx")
    write_config(folder, tokens, window, {"attention_mask": "attention_mask"})
    return folder


def write_config(
    folder: Path, tokens: Tokenizer, window: int, inputs: Mapping[str, str], **more: Any
) -> None:
    end = tokens.token_to_id(END)
    decoder = {
        "session_options": {"provider_options": []},
        "filename": "model.onnx",
        **dict.fromkeys(("head_size", "hidden_size", "num_attention_heads"), 1),
        **dict.fromkeys(("num_key_value_heads", "num_hidden_layers"), 1),
        "inputs": {
            "input_ids": "input_ids",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
            **inputs,
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    model = {
        "type": "llama",
        "vocab_size": tokens.get_vocab_size(),
        "context_length": window,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end),
        "decoder": decoder,
    }
    search = {"max_length": window, "do_sample": False}
    config = {"model": model, "search": search, **more}
    (folder / "genai_config.json").write_text(json.dumps(config))


def write_tokenizer(folder: Path, template: str = TEMPLATE) -> Tokenizer:
    """Bytes, and whole words beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE({each: id for id, each in enumerate(bytes_)}, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    words = [word for story in STORIES.values() for word in story if word.isascii()]
    known = dict.fromkeys([*STORIES, *words, DICE[0], *DICE[1], *STUTTER])
    plain = [AddedToken(word, normalized=False) for word in known if word not in _SPECIAL]
    tokens.add_special_tokens([AddedToken(each, special=True) for each in _SPECIAL])
    tokens.add_tokens(plain)
    tokens.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "GPT2Tokenizer", "eos_token": END, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokens


def tables(tokens: Tokenizer) -> dict[str, np.ndarray]:
    """Constants of the model: the topic that a token is, and the logits of the next token."""
    size = tokens.get_vocab_size()
    topics = [*STORIES, DICE[0], STUTTER[0]]
    of_token = np.zeros(size, np.float32)
    logits = np.full((len(topics) + 1, size, size), _NEVER, np.float32)
    logits[:, :, tokens.token_to_id(END)] = _LAST
    for topic, word in enumerate(topics, start=1):
        of_token[tokens.token_to_id(word)] = topic
    begin = tokens.token_to_id(BEGIN)
    for topic, story in enumerate(STORIES.values(), start=1):
        ids = [id for word in story for id in tokens.encode(word).ids]
        for last, following in zip([begin, *ids], [*ids, ids[-1]], strict=True):
            logits[topic, last, following] = _SURE
    for face in DICE[1]:
        logits[len(topics) - 1, begin, tokens.token_to_id(face)] = _SURE
    again, other = (tokens.token_to_id(word) for word in STUTTER[1:])
    logits[len(topics), :, again] = _SURE
    logits[len(topics), :, other] = _NEARLY
    return {
        "topics": of_token,
        "logits_of": logits.reshape(-1, size),  # by topic and last token
        "size": np.array(size, np.int64),
    }


def _model(tokens: Tokenizer, work: int) -> onnx.ModelProto:
    constants = {**tables(tokens), "cache_axes": np.array([1, 3], np.int64)}
    node = helper.make_node
    nodes = [
        node("Gather", ["topics", "input_ids"], ["new"]),
        node("Unsqueeze", ["new", "cache_axes"], ["new_key"]),
        node("Concat", ["past_key_values.0.key", "new_key"], ["present.0.key"], axis=2),
        node("Concat", ["past_key_values.0.value", "new_key"], ["present.0.value"], axis=2),
        node("ReduceMax", ["present.0.key"], ["topic"], axes=[1, 2, 3], keepdims=0),
        node("Cast", ["topic"], ["topic_id"], to=TensorProto.INT64),
        node("Mul", ["topic_id", "size"], ["row"]),
        node("Add", ["input_ids", "row"], ["place"]),
        node("Gather", ["logits_of", "place"], ["found"]),
    ]
    if work:
        constants |= {"matrix": np.eye(work, dtype=np.float32), "none": np.float32(0.0)}
        nodes += [
            node("Mul", ["matrix", "topic"], ["m0"]),
            *(node("MatMul", [f"m{n}", "matrix"], [f"m{n + 1}"]) for n in range(4)),
            node("ReduceMax", ["m4"], ["most"], keepdims=0),
            node("Mul", ["most", "none"], ["nothing"]),
            node("Add", ["found", "nothing"], ["logits"]),
        ]
    else:
        nodes.append(node("Identity", ["found"], ["logits"]))
    caches = [
        [tensor(f"{name}.0.{kind}", ["batch", 1, length, 1]) for kind in ("key", "value")]
        for name, length in (("past_key_values", "past"), ("present", "total"))
    ]
    inputs = [
        tensor("input_ids", ["batch", "new"], TensorProto.INT64),
        tensor("attention_mask", ["batch", "total"], TensorProto.INT64),
    ]
    logits = tensor("logits", ["batch", "new", int(constants["size"])])
    return model_of(nodes, [*inputs, *caches[0]], [logits, *caches[1]], constants)


def tensor(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Mapping[str, Any],
) -> onnx.ModelProto:
    held = [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model
