"""Several ProviderConfigs are one."""

import pytest

from servers.kernel.errors import InvalidInput
from servers.router.ports import ProviderSettings, RouterSettings

A = RouterSettings({"a": ProviderSettings("a", "ollama")}, failure_threshold=5)
B = RouterSettings({"b": ProviderSettings("b", "ollama")}, fallback_enabled=False)


def test_both_have_their_providers_in_it():
    assert sorted(A.merged(B).providers) == ["a", "b"]


def test_the_later_one_says_how_to_route():
    both = A.merged(B)
    assert (both.fallback_enabled, both.failure_threshold) == (False, 3)


def test_a_provider_that_is_declared_twice_is_refused():
    with pytest.raises(InvalidInput, match="'a' is declared twice"):
        A.merged(A)


def test_a_key_is_never_shown():
    assert "secret" not in repr(ProviderSettings("a", "openai", api_key="secret"))
