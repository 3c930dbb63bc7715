"""Ways to have a chat answered, each of which is measured in a process of its own.

A subject is a module with `opened(setup)`: an asynchronous context that gives `asking`, with
which a caller asks. `python -m bench.subjects NAME SETUP` is its process, which takes its
orders from `bench.subject_process`. Only a subject's own module imports what it measures.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bench.callers import Ask

SYSTEM = "You answer in one sentence."
Asking = Callable[[bool], Ask]  # whether the answer is streamed -> what a caller does


@dataclass(frozen=True, slots=True)
class Setup:
    """Where the models are and what is configured; None is what the subject itself thinks best."""

    primary: int  # port
    fallback: int = 0  # port; 0: there is none
    door: int = 0  # port of the server that has the router, where it is not in process
    first_token: float | None = None  # seconds that an answer may take to begin
    failures: int | None = None  # after so many a model is left alone
    cooldown: float | None = None  # seconds, for which it is left alone
    retries: int | None = None

    @property
    def ports(self) -> dict[str, int]:
        """In the order in which they are asked."""
        return {"primary": self.primary} | ({"fallback": self.fallback} if self.fallback else {})


def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
