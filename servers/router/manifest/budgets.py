"""kind: Budget. How much which calls may use together, and in which time."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from servers.domain.usage import BudgetAction, Window
from servers.kernel.errors import InvalidInput
from servers.kernel.explain import nearest
from servers.kernel.fields import Large, Number
from servers.kernel.manifest import Manifest, Strict, invalid
from servers.kernel.paths import Wrong
from servers.kernel.spelling import Spelling
from servers.kernel.yaml_text import Document
from servers.router.budgets.amounts import nano
from servers.router.budgets.budget import Budget as BudgetValue
from servers.router.budgets.budget import Limit, apart
from servers.router.budgets.patterns import Pattern
from servers.router.kinds import PROVIDERS
from servers.router.ports import RouterSettings

_Pattern = Annotated[str, Field(min_length=1, max_length=256)]
_Usd = Annotated[Number, Field(gt=0, le=1_000_000)]


class BudgetMatch(Strict):
    """Which calls are counted. What is left out matches all."""

    tenant: _Pattern | None = None
    principal: _Pattern | None = None
    agent: _Pattern | None = None
    session: _Pattern | None = None
    provider: _Pattern | None = None
    model: _Pattern | None = None

    def patterns(self) -> dict[str, Pattern]:
        return {name: Pattern(text) for name, text in self if text is not None}


class BudgetLimit(Strict):
    """One of them, or both."""

    usd: _Usd | None = None
    tokens: Large | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "BudgetLimit":
        if self.usd is None and self.tokens is None:
            raise ValueError("give usd, tokens or both: a budget without a limit bounds nothing")
        return self


class BudgetSpec(Strict):
    limit: BudgetLimit
    window: Literal["run", "hour", "day", "month"]
    match: BudgetMatch = BudgetMatch()
    per: tuple[
        Literal["tenant", "principal", "agent", "session", "run", "provider", "model"], ...
    ] = ()
    action: Literal["hard", "warn"] = "hard"


class Budget(Manifest):
    kind: Literal["Budget"]
    spec: BudgetSpec

    @classmethod
    def respell(cls, spelling: Spelling) -> None:
        spelling.listed("spec.per")

    def wrong(self, router: RouterSettings) -> Iterator[Wrong]:
        """Providers that don't exist: such a budget would never count anything."""
        named = self.spec.match.provider
        if named is None or "*" in named or named in router.providers:
            return
        try:
            PROVIDERS.check(named)
        except InvalidInput:
            known = sorted({*router.providers, *PROVIDERS})
            says = f"no provider is named {named!r}{nearest(named, known)}"
            yield Wrong(("spec", "match", "provider"), says)

    def budget(self) -> BudgetValue:
        spec, window, match = self.spec, Window(self.spec.window), self.spec.match.patterns()
        usd = spec.limit.usd
        return BudgetValue(
            self.metadata.name,
            Limit(None if usd is None else max(nano(usd), 1), spec.limit.tokens),
            window,
            BudgetAction(spec.action),
            tuple(match.items()),
            apart(spec.per, window, match),
        )


def budgets_of(
    found: Sequence[tuple[Document, Budget]], router: RouterSettings
) -> tuple[BudgetValue, ...]:
    """All budgets of a folder. Raises InvalidInput for a faulty one, and for a name given twice."""
    origins: dict[str, str] = {}
    for document, manifest in found:
        name = manifest.metadata.name
        if wrong := list(manifest.wrong(router)):
            raise invalid(document, wrong)
        if name in origins:
            says = f"{origins[name]} declares the budget {name!r}, too; rename one"
            raise invalid(document, [Wrong(("metadata", "name"), says)])
        origins[name] = document.origin
    return tuple(manifest.budget() for _, manifest in found)
