"""The model of tiny_causal.py as `use_paged_attention` builds models: for batches.

The tokens of all conversations come in one row, and their caches lie in pages that a table
assigns to them. Here, too, the topic is found in the cache: in the pages of one's own.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from tokenizers import Tokenizer

from tests.contract.tiny_causal import model_of, tables, tensor, write_config, write_tokenizer

PAGE = 16  # tokens
_TABLES = ("block_table", "cumulative_sequence_lengths", "past_sequence_lengths")


def build_paged(folder: Path, window: int = 2048, pages: int = 1024, batch: int = 8) -> Path:
    tokens = write_tokenizer(folder)
    onnx.save(_model(tokens), folder / "model.onnx")
    batching = {"block_size": PAGE, "num_blocks": pages, "max_batch_size": batch}
    inputs = {name: name for name in _TABLES}
    write_config(folder, tokens, window, inputs, engine={"dynamic_batching": batching})
    return folder


def _model(tokens: Tokenizer) -> onnx.ModelProto:
    constants = tables(tokens) | {
        "zero": np.int64(0),
        "one": np.int64(1),
        "page": np.int64(PAGE),
        "all": np.array([-1], np.int64),
        "first": np.array([1], np.int64),
        "end": np.array([2**31 - 1], np.int64),
        "in_page": np.arange(PAGE, dtype=np.int64),
        "axis_0": np.array([0], np.int64),
        "axis_1": np.array([1], np.int64),
        "axis_2": np.array([2], np.int64),
        "rows": np.array([0, -1], np.int64),
    }
    nodes = [*_whose(), *_written(), *_topics(), *_answers()]
    cache = [f"{name}.0.{kind}" for name in ("past_key_values", "present") for kind in _KINDS]
    kept = [tensor(name, ["pages", PAGE, 1, 1]) for name in cache]
    inputs = [
        tensor("input_ids", ["num_tokens"], TensorProto.INT64),
        tensor("block_table", ["batch_size", "max_blocks"], TensorProto.INT32),
        tensor("cumulative_sequence_lengths", ["batch_size_1"], TensorProto.INT32),
        tensor("past_sequence_lengths", ["batch_size"], TensorProto.INT32),
    ]
    logits = tensor("logits", ["num_tokens", int(constants["size"])])
    return model_of(nodes, [*inputs, *kept[:2]], [logits, *kept[2:]], constants)


_KINDS = ("key", "value")
_N = helper.make_node


def _whose() -> list[onnx.NodeProto]:
    """`who`: whose conversation a token belongs to. `at`: its position there."""
    return [
        _N("Cast", ["cumulative_sequence_lengths"], ["begins"], to=TensorProto.INT64),
        _N("Cast", ["past_sequence_lengths"], ["past"], to=TensorProto.INT64),
        _N("Cast", ["block_table"], ["table"], to=TensorProto.INT64),
        _N("Size", ["input_ids"], ["count"]),
        _N("Range", ["zero", "count", "one"], ["index"]),
        _N("Slice", ["begins", "first", "end"], ["ends"]),
        _N("Unsqueeze", ["index", "axis_1"], ["index_column"]),
        _N("LessOrEqual", ["ends", "index_column"], ["behind"]),
        _N("Cast", ["behind"], ["behind_1"], to=TensorProto.INT64),
        _N("ReduceSum", ["behind_1", "axis_1"], ["who"], keepdims=0),
        _N("Gather", ["past", "who"], ["past_of"]),
        _N("Gather", ["begins", "who"], ["begin_of"]),
        _N("Sub", ["index", "begin_of"], ["new_at"]),
        _N("Add", ["past_of", "new_at"], ["at"]),
    ]


def _written() -> list[onnx.NodeProto]:
    """`keys`: the cache with the topics of the new tokens, as one row."""
    return [
        _N("Div", ["at", "page"], ["page_at"]),
        _N("Unsqueeze", ["who", "axis_1"], ["who_column"]),
        _N("Unsqueeze", ["page_at", "axis_1"], ["page_column"]),
        _N("Concat", ["who_column", "page_column"], ["cell"], axis=1),
        _N("GatherND", ["table", "cell"], ["page_of"]),
        _N("Mul", ["page_of", "page"], ["page_start"]),
        _N("Mod", ["at", "page"], ["offset"]),
        _N("Add", ["page_start", "offset"], ["slot"]),
        _N("Gather", ["topics", "input_ids"], ["new"]),
        _N("Reshape", ["past_key_values.0.key", "all"], ["old_keys"]),
        _N("ScatterElements", ["old_keys", "slot", "new"], ["keys"]),
        _N("Shape", ["past_key_values.0.key"], ["shape"]),
        _N("Reshape", ["keys", "shape"], ["present.0.key"]),
        _N("Identity", ["past_key_values.0.value"], ["present.0.value"]),
    ]


def _topics() -> list[onnx.NodeProto]:
    """`topic`: of every conversation, from its own pages up to its own length."""
    return [
        _N("Max", ["table", "zero"], ["known"]),  # where there is no page yet, it says -1
        _N("Mul", ["known", "page"], ["starts"]),
        _N("Unsqueeze", ["starts", "axis_2"], ["starts_column"]),
        _N("Add", ["starts_column", "in_page"], ["slots_by_page"]),
        _N("Reshape", ["slots_by_page", "rows"], ["slots"]),
        _N("Gather", ["keys", "slots"], ["seen"]),
        _N("Slice", ["begins", "axis_0", "all"], ["starts_of"]),
        _N("Sub", ["ends", "starts_of"], ["lengths"]),
        _N("Add", ["past", "lengths"], ["totals"]),
        _N("Unsqueeze", ["totals", "axis_1"], ["totals_column"]),
        _N("Shape", ["slots"], ["slots_shape"]),
        _N("Gather", ["slots_shape", "one"], ["most"]),
        _N("Range", ["zero", "most", "one"], ["places"]),
        _N("Less", ["places", "totals_column"], ["mine"]),
        _N("Cast", ["mine"], ["mine_1"], to=TensorProto.FLOAT),
        _N("Mul", ["seen", "mine_1"], ["mine_only"]),
        _N("ReduceMax", ["mine_only"], ["topic"], axes=[1], keepdims=0),
    ]


def _answers() -> list[onnx.NodeProto]:
    return [
        _N("Gather", ["topic", "who"], ["topic_of"]),
        _N("Cast", ["topic_of"], ["topic_id"], to=TensorProto.INT64),
        _N("Mul", ["topic_id", "size"], ["row"]),
        _N("Add", ["input_ids", "row"], ["place"]),
        _N("Gather", ["logits_of", "place"], ["logits"]),
    ]
