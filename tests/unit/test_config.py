"""The configuration folder: what is read, what stops the mesh, and what does not."""

from pathlib import Path

import pytest

from servers.agents.catalogue.files import Declared
from servers.config import MeshConfig, load_config
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.ports import Hedging, Limits, Retries

SHIPPED = Path(__file__).parents[2] / "config"

AGENT = """\
apiVersion: astromesh/v1
kind: Agent
metadata: {name: NAME}
spec: {model: {primary: {provider: PROVIDER, model: m}}}
"""
HEAD = "apiVersion: astromesh/v1\nkind: KIND\nmetadata: {name: n}\nspec:\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "agents").mkdir()
    return tmp_path


def declare(folder: Path, name: str, provider: str = "ollama", file: str = "") -> None:
    path = folder / "agents" / f"{file or name}.agent.yaml"
    path.write_text(AGENT.replace("NAME", name).replace("PROVIDER", provider))


def write(folder: Path, name: str, kind: str, spec: str) -> None:
    (folder / name).write_text(HEAD.replace("KIND", kind) + f"  {spec}\n")


def loaded(folder: Path, *services: str, **env: str) -> MeshConfig:
    return load_config(folder, folder / "state", env, services)


def by_name(config: MeshConfig) -> dict[str, Declared]:
    return {each.name: each for each in config.agents}


class TestTheShippedFolder:
    def test_has_only_agents_that_load(self):
        agents = by_name(loaded(SHIPPED))
        assert set(agents) == {"assistant", "gpt"}
        assert [each.reason for each in agents.values()] == ["", ""]

    def test_has_no_file_without_effect(self):
        assert loaded(SHIPPED).notices == ()

    def test_has_an_assistant_on_the_local_model(self):
        agent = by_name(loaded(SHIPPED))["assistant"].agent
        assert agent is not None
        (ref,) = agent.models()
        assert (ref.provider, ref.model) == ("local", "smollm2-135m-instruct")

    def test_names_no_key(self):
        assert all(not each.api_key for each in loaded(SHIPPED).router.providers.values())


class TestAgents:
    def test_that_are_faulty_do_not_stop_the_others(self, folder):
        declare(folder, "good")
        (folder / "agents" / "bad.agent.yaml").write_text("a: [")
        agents = by_name(loaded(folder))
        assert agents["good"].agent is not None
        assert agents["bad"].agent is None
        assert agents["bad"].reason.startswith("bad.agent.yaml:2:1: not valid YAML")

    def test_that_are_faulty_go_by_the_name_they_give(self, folder):
        declare(folder, "named", provider="nobody", file="other")
        assert set(by_name(loaded(folder))) == {"named"}

    def test_of_an_unknown_provider_are_told_which_there_are(self, folder):
        declare(folder, "a", provider="olama")
        reason = by_name(loaded(folder))["a"].reason
        assert reason.startswith("a.agent.yaml:4: spec.model.primary.provider: no provider 'olama'")

    def test_of_one_name_do_not_run_either_of_them(self, folder):
        declare(folder, "twin", file="one")
        declare(folder, "twin", file="two")
        twin = by_name(loaded(folder))["twin"]
        assert twin.agent is None
        assert twin.reason == ("one.agent.yaml and two.agent.yaml: both declare the agent 'twin'")

    def test_may_share_a_file(self, folder):
        text = AGENT.replace("PROVIDER", "ollama")
        both = text.replace("NAME", "a") + "---\n" + text.replace("NAME", "b")
        (folder / "agents" / "both.agent.yaml").write_text(both)
        assert set(by_name(loaded(folder))) == {"a", "b"}

    def test_of_ten_megabytes_are_refused(self, folder):
        (folder / "agents" / "big.agent.yaml").write_text("#" * 10_000_000)
        assert by_name(loaded(folder))["big"].reason == "big.agent.yaml: larger than 1024 KiB"

    @pytest.mark.parametrize("provider", ["tei", "cohere"])
    def test_on_a_provider_without_chats_are_told_what_it_can(self, folder, provider):
        write(
            folder,
            "providers.yaml",
            "ProviderConfig",
            f"{{providers: {{v: {{type: {provider}, endpoint: 'http://h'}}}}}}",
        )
        declare(folder, "a", provider="v")
        assert by_name(loaded(folder))["a"].reason == (
            "a.agent.yaml:4: spec.model.primary.provider: provider 'v' (type "
            f"{provider!r}) can't chat; it can embed, rerank"
        )

    def test_of_another_kind_are_refused(self, folder):
        (folder / "agents" / "x.agent.yaml").write_text(HEAD.replace("KIND", "Workflow"))
        assert by_name(loaded(folder))["x"].reason == (
            "x.agent.yaml:2: kind: expected 'Agent', found 'Workflow'"
        )

    def test_of_an_empty_file_are_told_so(self, folder):
        (folder / "agents" / "x.agent.yaml").write_text("# nothing\n")
        assert by_name(loaded(folder))["x"].reason == "x.agent.yaml: the file is empty"

    def test_take_the_runtimes_defaults_where_they_are_silent(self, folder):
        declare(folder, "a")
        write(
            folder,
            "runtime.yaml",
            "RuntimeConfig",
            "defaults: {orchestration: {max_iterations: 3}}",
        )
        agent = by_name(loaded(folder))["a"].agent
        assert agent is not None
        assert agent.spec.orchestration.max_iterations == 3
        assert "orchestration" not in agent.canonical()["spec"]

    @pytest.mark.parametrize("service", ["agents", "router", "memory", "rag"])
    def test_are_read_where_what_they_name_matters(self, folder, service):
        declare(folder, "a")
        assert [each.name for each in loaded(folder, service).agents] == ["a"]

    def test_are_not_read_by_a_process_that_has_no_use_for_them(self, folder):
        declare(folder, "a")
        assert loaded(folder, "tools").agents == ()


class TestTheFolder:
    def test_must_exist(self, tmp_path):
        with pytest.raises(NotReady, match="there is no configuration folder") as caught:
            loaded(tmp_path / "nowhere")
        assert caught.value.reason == "CONFIG_MISSING"

    def test_may_be_empty(self, tmp_path):
        assert loaded(tmp_path).agents == ()

    def test_says_which_files_have_no_effect(self, folder):
        write(folder, "channels.yaml", "ChannelConfig", "channels: {}")
        (folder / "rag").mkdir()
        write(folder, "rag/docs.yaml", "RAGPipeline", "chunking: {}")
        (folder / "plain.yaml").write_text("channels: {}")
        assert loaded(folder).notices == (
            "channels.yaml: kind ChannelConfig is not part of this version; the file has no effect",
            "plain.yaml: nothing reads it; the file has no effect",
            "rag/docs.yaml: pipelines are read from rag/*.rag.yaml only; the file has no effect",
        )


class TestProviders:
    def test_are_read_with_models_keys_and_routing(self, folder):
        write(
            folder,
            "providers.yaml",
            "ProviderConfig",
            "{providers: {v: {type: openai, api_key_env: K, endpoint: 'http://h/v1', timeout: 9,"
            " models: [a, {name: b, tools: true, price: {input: 1, output: 2}}]}},"
            " routing: {circuit_breaker: {failure_threshold: 5, recovery_timeout: 7}}}",
        )
        router = loaded(folder).router
        provider = router.providers["v"]
        assert (provider.kind, provider.endpoint, provider.api_key_env) == (
            "openai",
            "http://h/v1",
            "K",
        )
        assert provider.timeouts.total == 9
        assert [model.name for model in provider.models] == ["a", "b"]
        assert provider.models[1].capabilities.tools is True
        assert (router.failure_threshold, router.recovery_timeout) == (5, 7.0)

    def test_are_read_with_limits_retries_and_hedging(self, folder):
        write(
            folder,
            "providers.yaml",
            "ProviderConfig",
            "{providers: {v: {type: ollama, limits: {concurrency: 4, tokens_per_minute: 1000},"
            " models: [{name: a, tools: emulated, quality_rank: 2, max_output: 99}]}},"
            " routing: {default_strategy: cost_optimized, hedging: {percentile: 0.9},"
            " retries: {max_retries: 3, 'on': [timeout]}}}",
        )
        router = loaded(folder).router
        provider = router.providers["v"]
        (model,) = provider.models
        assert provider.limits == Limits(concurrency=4, tokens_per_minute=1000)
        assert (model.capabilities.tools, model.capabilities.emulated_tools) == (False, True)
        assert (model.quality_rank, model.max_output) == (2, 99)
        assert router.default_strategy == "cost_optimized"
        assert router.retries == Retries(3, on=frozenset({"timeout"}))
        assert router.hedging == Hedging(0.9)

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ("{providers: {v: {type: opnai}}}", "spec.providers.v.type: .*no 'opnai'"),
            ("{providers: {v: {typ: ollama}}}", "unknown key 'typ'; did you mean 'type'"),
            (
                "{routing: {default_strategy: round_robbin}}",
                "spec.routing.default_strategy: ",
            ),
            (
                "{providers: {v: {type: ollama, endpoint: 'localhost:11434'}}}",
                "spec.providers.v.endpoint: .*no address of a provider",
            ),
            (
                "{providers: {v: {type: ollama, models: [{name: a, price: {input: -1}}]}}}",
                r"spec.providers.v.models\[0\].price.input: ",
            ),
            (
                "{providers: {v: {type: ollama, limits: {concurrency: 0}}}}",
                "spec.providers.v.limits.concurrency: ",
            ),
            (
                "{providers: {v: {type: ollama, options: {speed: 1}}}}",
                "spec.providers.v.options.speed: unknown option 'speed'",
            ),
            (
                "{providers: {v: {type: onnx_embeddings, options: {pooling: max}}}}",
                "spec.providers.v.options.pooling: is none of mean, cls, last",
            ),
            (
                "{providers: {v: {type: onnx_embeddings, options: {threads: 0}}}}",
                "spec.providers.v.options.threads: is no whole number from 1 to 1024",
            ),
            (
                "{providers: {v: {type: onnx_embeddings, options: {truncate: 1}}}}",
                "spec.providers.v.options.truncate: is no true or false",
            ),
            (
                "{providers: {v: {type: onnx, options: {device: tpu}}}}",
                "spec.providers.v.options.device: is none of auto, cpu, cuda",
            ),
            (
                "{providers: {v: {type: onnx, options: {parallel: 0}}}}",
                "spec.providers.v.options.parallel: is no whole number from 1 to 256",
            ),
            (
                "{routing: {retries: {'on': [rain]}}}",
                r"spec.routing.retries.on\[0\]: ",
            ),
        ],
    )
    def test_that_are_faulty_stop_the_mesh(self, folder, spec, says):
        write(folder, "providers.yaml", "ProviderConfig", spec)
        with pytest.raises(InvalidInput, match=rf"^providers\.yaml:5: .*{says}"):
            loaded(folder)

    def test_azure_may_name_a_version_of_its_api(self, folder):
        azure = "{type: azure_openai, endpoint: 'https://h', options: {api_version: '2024-10-21'}}"
        write(folder, "providers.yaml", "ProviderConfig", f"{{providers: {{v: {azure}}}}}")
        declared = loaded(folder).router.providers["v"]
        assert (declared.kind, dict(declared.options)) == (
            "azure_openai",
            {"api_version": "2024-10-21"},
        )


class TestTheRuntime:
    def test_listens_on_this_machine_only(self, folder):
        write(folder, "runtime.yaml", "RuntimeConfig", "api: {host: 0.0.0.0}")
        with pytest.raises(InvalidInput, match="callers are not authenticated yet"):
            loaded(folder)

    def test_ports_are_the_callers_word_then_the_files_then_the_usual(self, folder):
        assert (loaded(folder).http_port, loaded(folder).grpc_port) == (8080, 50051)
        write(folder, "runtime.yaml", "RuntimeConfig", "api: {port: 81, grpc_port: 82}")
        assert (loaded(folder).http_port, loaded(folder).grpc_port) == (81, 82)
        said = load_config(folder, folder, {}, http_port=91, grpc_port=0)
        assert (said.http_port, said.grpc_port) == (91, 0)

    @pytest.mark.parametrize(
        ("spec", "field"), [("peers: [x]", "peers"), ("observability: {a: 1}", "observability")]
    )
    def test_refuses_what_has_no_effect_yet(self, folder, spec, field):
        write(folder, "runtime.yaml", "RuntimeConfig", spec)
        with pytest.raises(InvalidInput, match=f"runtime.yaml:5: spec.{field}: "):
            loaded(folder)


class TestServices:
    def test_are_all_here_where_none_is_named(self, folder):
        config = loaded(folder)
        assert (config.local, config.remote) == ({"agents", "router", "memory", "tools", "rag"}, {})

    def test_that_run_elsewhere_are_dialled_where_the_runtime_says(self, folder):
        write(folder, "runtime.yaml", "RuntimeConfig", "services: {router: 'models:9'}")
        remote = loaded(folder, "agents").remote
        assert remote["router"] == "models:9"
        assert set(remote) == {"router", "memory", "tools", "rag"}

    def test_that_run_alone_have_a_port_each_so_that_they_find_one_another(self, folder):
        assert loaded(folder, "agents").remote == {
            name: f"127.0.0.1:{loaded(folder, name).grpc_port}"
            for name in ("router", "memory", "tools", "rag")
        }

    def test_that_do_not_exist_are_refused(self, folder):
        with pytest.raises(InvalidInput, match="no service 'routr'; there are agents, router"):
            loaded(folder, "routr")


def test_functions_of_agents_and_of_the_runtime_become_tools(folder):
    text = AGENT.replace("NAME", "a").replace("PROVIDER", "ollama")
    tools = "tools: [{name: mine, function: 'json:dumps'}]"
    (folder / "agents" / "a.agent.yaml").write_text(text.replace("m}}", f"m}}}}, {tools}"))
    write(folder, "runtime.yaml", "RuntimeConfig", "tools: {functions: {ours: 'n:g'}}")
    assert loaded(folder).tool_functions == {"mine": "json:dumps", "ours": "n:g"}


def test_of_two_agents_with_one_tool_name_for_two_functions_one_must_give_way(folder):
    for name, function in (("a", "json:dumps"), ("b", "json:loads")):
        text = AGENT.replace("NAME", name).replace("PROVIDER", "ollama")
        tools = f"tools: [{{name: mine, function: '{function}'}}]"
        path = folder / "agents" / f"{name}.agent.yaml"
        path.write_text(text.replace("m}}", f"m}}}}, {tools}"))
    first, second = loaded(folder).agents
    assert first.reason.endswith("name: 'mine' is 'json:loads' already; rename one")
    assert second.agent


class TestAnAgentWhoseToolsCanNotBeHad:
    @pytest.mark.parametrize(
        ("tools", "says"),
        [
            (
                "[json_query, calculatr]",
                "a.agent.yaml: spec.tools[1].name: no tool is named 'calculatr'; "
                "did you mean 'calculator'?",
            ),
            (
                "[{name: mine, function: 'no_such_module:f'}]",
                "a.agent.yaml: spec.tools[0].function: tool 'mine': the module 'no_such_module'",
            ),
            (
                "[{name: calculator, function: 'json:dumps'}]",
                "a.agent.yaml: spec.tools[0].name: 'calculator' is built in; choose another name",
            ),
        ],
    )
    def test_is_kept_with_its_reason_and_stops_nobody_else(self, folder, tools, says):
        declare(folder, "a")
        file = folder / "agents" / "a.agent.yaml"
        file.write_text(file.read_text().replace("model: m}}", f"model: m}}}}, tools: {tools}"))
        declare(folder, "b")
        config = loaded(folder)
        agents = by_name(config)
        assert agents["a"].agent is None
        assert agents["a"].reason.startswith(says)
        assert agents["b"].agent is not None
        assert config.tool_functions == {}

    def test_is_left_to_the_process_that_has_the_tools(self, folder):
        declare(folder, "a")
        file = folder / "agents" / "a.agent.yaml"
        file.write_text(file.read_text().replace("model: m}}", "model: m}}, tools: [far_away]"))
        assert by_name(loaded(folder, "agents", "router"))["a"].agent is not None
