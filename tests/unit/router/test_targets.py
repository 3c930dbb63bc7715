"""From a candidate as an agent names it to what is asked."""

import pytest

from servers.domain.chat import ModelRef
from servers.domain.models import Capabilities
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.ports import ModelSettings, ProviderSettings, RouterSettings, Timeouts
from servers.router.routing.targets import Needs, combined, resolve

MINE = ProviderSettings(
    "mine",
    "openai_compat",
    "http://mine/v1",
    api_key_env="MINE_KEY",
    models=(ModelSettings("big"), ModelSettings("small", Capabilities(tools=False))),
)
SETTINGS = RouterSettings({"mine": MINE})


def target(**ref):
    return resolve(ModelRef(**ref), SETTINGS)


class TestACandidate:
    def test_takes_what_its_provider_declares(self):
        found = target(provider="mine", model="small")
        assert (found.endpoint, found.model) == ("http://mine/v1", "small")
        assert found.declared.capabilities.tools is False

    def test_may_name_another_endpoint(self):
        assert target(provider="mine", endpoint="http://other").endpoint == "http://other"

    def test_may_name_a_type(self):
        assert target(provider="ollama", model="x").endpoint == "http://127.0.0.1:11434"

    def test_of_the_local_model_needs_no_more(self):
        assert target(provider="local").model == "smollm2-135m-instruct"

    def test_narrows_the_provider_s_timeouts(self):
        limits = target(provider="mine", timeout=2.0).timeouts
        assert limits == Timeouts(2.0, 2.0, 2.0, 2.0)

    @pytest.mark.parametrize(
        ("ref", "says"),
        [
            ({"provider": "who"}, "no provider 'who': declared are mine"),
            ({"provider": "openai_compat", "model": "m"}, "has no endpoint"),
            ({"provider": "ollama"}, "name the model"),
            ({"provider": "mine", "endpoint": "localhost:8000"}, "no address of a provider"),
            (
                {"provider": "mine", "endpoint": "ftp://x"},
                "it needs http:// or https:// and a host",
            ),
            ({"provider": "mine", "endpoint": "http://"}, "and a host"),
            ({"provider": "onnx"}, "has no endpoint"),
            ({"provider": "azure_openai", "model": "m"}, "has no endpoint"),
            ({"provider": "llamacpp", "model": "m"}, "has no endpoint"),
            ({"provider": "hf_tgi", "model": "m"}, "has no endpoint"),
            ({"provider": "vllm"}, "name the model"),
        ],
    )
    def test_that_can_not_be_asked_is_refused_with_the_reason(self, ref, says):
        with pytest.raises(InvalidInput, match=says):
            target(**ref)


class TestTheKey:
    def test_comes_from_the_environment(self):
        assert target(provider="mine").credential({"MINE_KEY": "abc"}) == "abc"

    def test_that_is_missing_is_named(self):
        with pytest.raises(NotReady, match="MINE_KEY"):
            target(provider="mine").credential({})

    def test_of_a_candidate_goes_before_the_provider_s(self):
        assert target(provider="mine", api_key="own").credential({}) == "own"

    def test_of_one_endpoint_never_goes_to_another(self):
        assert target(provider="mine", endpoint="http://other").credential({}) == ""

    def test_of_openai_has_its_usual_name(self):
        found = target(provider="openai", model="gpt-4o")
        assert found.credential({"OPENAI_API_KEY": "abc"}) == "abc"

    def test_of_openai_never_goes_to_another_endpoint(self):
        found = target(provider="openai", model="m", endpoint="http://127.0.0.1:1/v1")
        assert found.credential({"OPENAI_API_KEY": "abc"}) == ""

    def test_of_azure_has_its_usual_name_at_the_declared_endpoint(self):
        azure = RouterSettings({"a": ProviderSettings("a", "azure_openai", "https://a.example")})
        found = resolve(ModelRef("a", "m"), azure)
        assert found.credential({"AZURE_OPENAI_API_KEY": "abc"}) == "abc"

    def test_of_azure_never_goes_to_another_endpoint(self):
        found = target(provider="azure_openai", model="m", endpoint="https://b.example")
        assert found.credential({"AZURE_OPENAI_API_KEY": "abc"}) == ""

    def test_is_not_shown(self):
        assert "secret" not in repr(target(provider="mine", api_key="secret"))


def test_what_is_declared_goes_before_what_the_adapter_knows():
    assert combined(Capabilities(tools=True), Capabilities(tools=False, vision=False)) == (
        Capabilities(tools=True, vision=False)
    )


def test_a_model_that_is_declared_without_tools_is_not_offered_them_in_another_way():
    known = Capabilities(tools=False, emulated_tools=True)
    assert combined(Capabilities(tools=False), known).emulated_tools is False
    assert combined(Capabilities(), known).emulated_tools is True


def test_what_nobody_declared_is_no_reason_to_refuse():
    assert Needs(tools=True, vision=True).missing(Capabilities()) == ()


def test_what_is_missing_is_named():
    needed = Needs(tools=True, vision=True, json_schema=True)
    assert needed.missing(Capabilities(tools=False, vision=True)) == ("tools",)
