"""Adds up what the models of a run used."""

from servers.domain.chat import Finish, ModelUsage


class Tally:
    def __init__(self) -> None:
        self._by_model: dict[tuple[str, str], ModelUsage] = {}

    def add(self, finish: Finish) -> None:
        key = (finish.provider, finish.model)
        before = self._by_model.get(key)
        self._by_model[key] = ModelUsage(
            *key,
            calls=(before.calls if before else 0) + 1,
            usage=before.usage + finish.usage if before else finish.usage,
        )

    @property
    def models(self) -> tuple[ModelUsage, ...]:
        return tuple(self._by_model.values())

    @property
    def tokens(self) -> int:
        return sum(
            each.usage.prompt_tokens + each.usage.completion_tokens
            for each in self._by_model.values()
        )
