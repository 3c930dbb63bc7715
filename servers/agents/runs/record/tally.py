"""Adds up what the models of a run used."""

from servers.domain.chat import Finish, ModelUsage


class Tally:
    def __init__(self) -> None:
        self._by_model: dict[tuple[str, str], ModelUsage] = {}

    def add(self, finish: Finish) -> None:
        """With what was used besides. An answer from the cache is no call."""
        calls = 0 if finish.cached else 1
        self.add_used(ModelUsage(finish.provider, finish.model, calls, finish.usage))
        for other in finish.besides:
            self.add_used(other)

    def add_used(self, more: ModelUsage) -> None:
        key = (more.provider, more.model)
        before = self._by_model.get(key)
        if before is None or before.calls == 0:
            self._by_model[key] = more
        elif more.calls:
            calls = before.calls + more.calls
            self._by_model[key] = ModelUsage(*key, calls, before.usage + more.usage)

    @property
    def models(self) -> tuple[ModelUsage, ...]:
        return tuple(self._by_model.values())

    @property
    def tokens(self) -> int:
        return sum(each.usage.tokens for each in self._by_model.values())

    @property
    def usd(self) -> float:
        """Where prices are known."""
        return sum(each.usage.cost_usd or 0.0 for each in self._by_model.values())
