"""What a model on Triton takes and gives, and how many texts fit into one request."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType

from servers.kernel.errors import NotReady

TEXT = frozenset({"BYTES"})
NUMBERS = frozenset({"FP16", "BF16", "FP32", "FP64"})
_MOST_ROWS = 64  # texts in a request to a model that takes any number of them


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output. `dims` has no batch; -1 is any length."""

    name: str
    kind: str  # by KServe's names: BYTES, FP32, ...
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its server describes it."""

    name: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    max_batch: int  # 0: Triton does not batch it, and its tensors have no batch
    decoupled: bool  # it may answer one request piece by piece

    def shape(self, tensor: Tensor, rows: int) -> list[int]:
        """Of so many texts, one a row."""
        if self.max_batch:
            return [rows, *(1 for _ in tensor.dims)]
        return [rows if number == 0 else 1 for number, _ in enumerate(tensor.dims)]

    def most_rows(self, *inputs: Tensor) -> int:
        """How many texts a request may have. Raises NotReady for no tensor of single texts."""
        for each in inputs:
            if any(size not in (1, -1) for size in each.dims[0 if self.max_batch else 1 :]):
                raise self._unfit(f"input {each.name!r} holds {prod(each.dims)} texts a row")
        if self.max_batch:
            return self.max_batch
        sizes = [each.dims[0] if each.dims else 1 for each in inputs]
        return min(_MOST_ROWS if size < 0 else size for size in sizes)

    def check_answers_once(self) -> None:
        """Raises NotReady for a model that answers piece by piece."""
        if self.decoupled:
            raise self._unfit("it answers piece by piece (decoupled), which is for chats only")

    def input(self, wanted: str, usual: str = "") -> Tensor:
        """The text input of that name; without a name the usual one, or the only one."""
        return self._choose(_fit(self.inputs, TEXT), wanted, usual, "input", "input of texts")

    def output(self, wanted: str, kinds: frozenset[str], usual: str = "") -> Tensor:
        what = "output of texts" if kinds is TEXT else "output of numbers"
        return self._choose(_fit(self.outputs, kinds), wanted, usual, "output", what)

    def pair(self, query: str, document: str) -> tuple[Tensor, Tensor]:
        """The inputs for a query and for a document; without names those that are called so."""
        fit = _fit(self.inputs, TEXT)
        first = self._named(fit, query or "query", "query_input", "input of texts")
        second = self._named(fit, document or "document", "document_input", "input of texts")
        if first is second:
            raise self._unfit("query and document need an input each")
        return first, second

    def _choose(
        self, fit: Mapping[str, Tensor], wanted: str, usual: str, option: str, what: str
    ) -> Tensor:
        if wanted:
            return self._named(fit, wanted, option, what)
        if usual in fit:
            return fit[usual]
        if len(fit) == 1:
            return next(iter(fit.values()))
        raise self._unfit(f"name its {what} by the option {option!r}: {_names(fit)}")

    def _named(self, fit: Mapping[str, Tensor], name: str, option: str, what: str) -> Tensor:
        if name in fit:
            return fit[name]
        raise self._unfit(f"no {what} is named {name!r} (option {option!r}): {_names(fit)}")

    def _unfit(self, why: str) -> NotReady:
        return NotReady(f"model {self.name!r}: {why}", reason="MODEL_CANNOT", model=self.name)


def described(config: Any) -> Model:
    """From Triton's own description, the ModelConfig message."""
    return Model(
        config.name,
        _tensors(config.input),
        _tensors(config.output),
        config.max_batch_size,
        config.model_transaction_policy.decoupled,
    )


def _fit(tensors: Mapping[str, Tensor], kinds: frozenset[str]) -> dict[str, Tensor]:
    return {name: each for name, each in tensors.items() if each.kind in kinds}


def _tensors(found: Iterable[Any]) -> dict[str, Tensor]:
    return {each.name: Tensor(each.name, _kind(each), tuple(each.dims)) for each in found}


def _kind(tensor: Any) -> str:
    """TYPE_STRING is BYTES on the wire; the others keep their names."""
    named: str = DataType.Name(tensor.data_type).removeprefix("TYPE_")
    return "BYTES" if named == "STRING" else named


def _names(tensors: Mapping[str, Tensor]) -> str:
    return f"there are {', '.join(map(repr, tensors))}" if tensors else "there is none"
