"""What the worker of a model deals with: pieces of text, engines that read them, tasks.

A piece is as much of a text as a model reads at once. A task says how texts become
pieces and what is wanted of them; an engine is the loaded model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class Piece:
    tokens: int  # its length
    content: Any  # as its engine wants it


class Switch(Protocol):
    """Ends a run that nobody waits for any more."""

    terminate: bool


class Engine(Protocol):
    """A loaded model. Everything happens in its worker's thread, but setting a switch."""

    def switch(self) -> Switch:
        """A new one, for the next run."""
        ...

    def run(self, pieces: Sequence[Piece], switch: Switch) -> Sequence[Any]:
        """What the model makes of each piece. Raises ProviderDown where it can't."""
        ...


E = TypeVar("E", bound=Engine)
_E_contra = TypeVar("_E_contra", bound=Engine, contravariant=True)
_R_co = TypeVar("_R_co", covariant=True)


class Task(Protocol[_E_contra, _R_co]):
    """What is wanted of some texts. Used by the worker's thread alone."""

    @property
    def sizes(self) -> Sequence[int]:
        """About how long each text is, in any unit: those of like length are read together."""
        ...

    def cut(self, engine: _E_contra, texts: Sequence[int]) -> Sequence[Sequence[Piece]]:
        """The pieces of the texts with these numbers. Raises InvalidInput for a text that
        can't be read."""
        ...

    def keep(self, piece: Piece, found: Any) -> Any:
        """What is needed of what the model made of a piece. The rest may be big."""
        ...

    def join(self, pieces: Sequence[Piece], kept: Sequence[Any]) -> _R_co:
        """What is wanted of one text, from what was kept of its pieces."""
        ...
