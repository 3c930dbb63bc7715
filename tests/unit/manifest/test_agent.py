"""kind: Agent: every key that users write, what it means, and what is refused until later."""

import json
import re
from textwrap import dedent

import pytest
from astromesh.agents.v1.agent_pb2 import Agent as Wire
from google.protobuf.json_format import MessageToDict, ParseDict

from servers.agents.catalogue.declare import Declaring
from servers.agents.manifest import Agent
from servers.domain.chat import ModelRef, Sampling
from servers.domain.memory import Strategy
from servers.kernel.errors import InvalidInput
from servers.kernel.manifest import load
from tests.unit.manifest.reading import MODEL, agent, wrong

SEED = """\
apiVersion: astromesh/v1
kind: Agent
metadata:
  name: support-agent
  version: "1.0.0"
spec:
  model:
    primary:
      provider: ollama
      model: "llama3.1:8b"
  orchestration:
    pattern: react
    max_iterations: 10
"""

EVERYTHING = """\
identity: {display_name: A, description: b, avatar: c, role: d, personality: e}
model:
  primary:
    provider: openai
    model: m
    endpoint: https://h/v1
    api_key_env: K
    parameters: {temperature: 0.5, top_p: 0.9, max_tokens: 100, stop: [x], seed: 3, min_p: 0.1}
    timeout: 30
    context_window: 8192
  fallback: [{provider: ollama, model: n}]
  routing: {strategy: in_order}
  default: {candidates: [{provider: ollama, model: d}], strategy: in_order}
  roles: {planner: {candidates: [{provider: ollama, model: p}]}}
prompts: {system: s, context: c, templates: {t: x}, variables: {v: {w: 1}}}
orchestration:
  {pattern: react, max_iterations: 5, timeout_seconds: 60, max_tool_result_tokens: 500,
   role_map: {critic: planner}, stages: [a, b], stage_prompts: {a: x}, max_parallel: 2,
   max_replans: 0}
tools:
  - name: t
    type: internal
    function: "m:f"
    description: d
    parameters: {type: object, properties: {q: {type: string}}, required: []}
    rate_limit: {max_calls: 3, window_seconds: 60}
    max_result_tokens: 10
    timeout: 5
    idempotent: true
    requires_approval: false
memory: {conversational: {backend: sqlite, strategy: sliding_window, max_turns: 7}}
concurrency: reject
durability: exit
on_disconnect: continue
"""


def seed() -> Agent:
    (found,) = load(Agent, SEED, "support.agent.yaml", {})
    return found


def canonical(spec: str, **env: str):
    return agent(spec, **env).canonical()["spec"]


class TestTheSeedsExample:
    def test_loads_unchanged(self):
        assert seed().models() == (ModelRef("ollama", "llama3.1:8b"),)

    def test_is_its_own_canonical_form(self):
        assert seed().canonical() == {
            "api_version": "astromesh/v1",
            "kind": "Agent",
            "metadata": {"name": "support-agent", "version": "1.0.0"},
            "spec": {
                "model": {"primary": {"provider": "ollama", "model": "llama3.1:8b"}},
                "orchestration": {"pattern": "react", "max_iterations": 10},
            },
        }


class TestTheCanonicalForm:
    def test_loads_again_to_the_same(self):
        spec = json.dumps(canonical(EVERYTHING))
        assert canonical(spec) == canonical(EVERYTHING)

    def test_is_the_json_of_the_protobuf_message(self):
        tree = agent(EVERYTHING).canonical()
        wire = MessageToDict(ParseDict(tree, Wire()), preserving_proto_field_name=True)
        assert Agent.model_validate(wire).canonical() == tree

    def test_moves_unlisted_parameters_into_extra(self):
        assert canonical(EVERYTHING)["model"]["primary"]["parameters"]["extra"] == {"min_p": 0.1}

    def test_shows_only_what_was_written(self):
        assert set(canonical(MODEL)) == {"model"}

    def test_leaves_out_keys_without_a_value(self):
        assert set(canonical(MODEL + "tools:\nmemory:\nprompts: {system: ''}")) == {"model"}


class TestAParameter:
    def test_that_nobody_here_knows_goes_to_the_provider(self):
        model = "model: {primary: {provider: x, parameters: {mirostat: 2, top_k: 3}}}"
        assert agent(model).models()[0].sampling.extra == {"mirostat": 2, "top_k": 3}

    @pytest.mark.parametrize(
        ("slip", "meant"), [("temprature", "temperature"), ("max_token", "max_tokens")]
    )
    def test_that_is_nearly_a_known_one_is_a_slip(self, slip, meant):
        found = wrong(f"model: {{primary: {{provider: x, parameters: {{{slip}: 1}}}}}}")
        assert f"unknown parameter {slip!r}; did you mean {meant!r}?" in " ".join(found.values())


class TestOtherSpellings:
    @pytest.mark.parametrize(
        ("written", "means"),
        [
            ("model: {primary: {source: x}}", "model: {primary: {provider: x}}"),
            ("model: {primary: {providerRef: x}}", "model: {primary: {provider: x}}"),
            ("model: {primary: {providerRef: {name: x}}}", "model: {primary: {provider: x}}"),
            (
                "model: {primary: {provider: x, temperature: 1, max_tokens: 5}}",
                "model: {primary: {provider: x, parameters: {temperature: 1, max_tokens: 5}}}",
            ),
            (
                "model: {primary: {provider: x, parameters: {stop: END}}}",
                "model: {primary: {provider: x, parameters: {stop: [END]}}}",
            ),
            (
                "model: {primary: {provider: x}, fallback: {provider: y}}",
                "model: {primary: {provider: x}, fallback: [{provider: y}]}",
            ),
            (
                "model: {primary: {provider: x}, routing: in_order}",
                "model: {primary: {provider: x}, routing: {strategy: in_order}}",
            ),
            (MODEL + "orchestration: {timeout: 5}", MODEL + "orchestration: {timeout_seconds: 5}"),
            (MODEL + "tools: [calc]", MODEL + "tools: [{name: calc}]"),
            (
                MODEL + "tools: [{name: t, type: builtin}]",
                MODEL + "tools: [{name: t, type: internal}]",
            ),
            (
                MODEL + "tools: [{name: t, parameters: {city: {type: string}}}]",
                MODEL + "tools: [{name: t, parameters: {type: object, properties: "
                "{city: {type: string}}}}]",
            ),
            *(
                (
                    MODEL + f"memory: {{conversational: {{{key}: 4}}}}",
                    MODEL + "memory: {conversational: {max_turns: 4}}",
                )
                for key in ("window_size", "max_messages")
            ),
        ],
    )
    def test_are_brought_to_one(self, written, means):
        assert canonical(written) == canonical(means)


class TestSecrets:
    def test_are_not_shown(self):
        shown = agent("model: {primary: {provider: x, api_key: hunter2}}").public()
        assert shown["spec"]["model"]["primary"]["api_key"] == "***"

    def test_of_variables_are_not_shown_either(self):
        found = agent(MODEL + "prompts: {system: 'key ${K}'}", K="hunter2")
        assert found.public()["spec"]["prompts"]["system"] == "key ${K}"
        assert found.spec.prompts.system == "key hunter2"

    def test_are_not_in_the_repr(self):
        assert "hunter2" not in repr(agent("model: {primary: {provider: x, api_key: hunter2}}"))


class TestModels:
    ROLES = dedent("""\
        model:
          primary: {provider: a}
          fallback: [{provider: b}]
          default: {candidates: [{provider: c}]}
          roles: {fast: {candidates: [{provider: d}, {provider: e}]}}
        orchestration: {role_map: {planner: fast, worker: default}}
        """)

    @pytest.mark.parametrize(
        ("role", "providers"),
        [("planner", "de"), ("fast", "de"), ("worker", "c"), ("critic", "c"), ("", "c")],
    )
    def test_of_a_role_come_from_role_map_then_roles_then_default(self, role, providers):
        assert "".join(ref.provider for ref in agent(self.ROLES).models(role)) == providers

    def test_without_a_default_are_primary_and_fallback(self):
        found = agent("model: {primary: {provider: a}, fallback: [{provider: b}]}")
        assert [ref.provider for ref in found.models("any")] == ["a", "b"]

    def test_carry_all_that_was_said(self):
        (ref,) = agent(EVERYTHING.replace("  default: {", "  #: {")).models("")[:1]
        assert ref == ModelRef(
            "openai",
            "m",
            "https://h/v1",
            "K",
            timeout=30.0,
            context_window=8192,
            sampling=Sampling(0.5, 0.9, 100, ("x",), 3, {"min_p": 0.1}),
        )

    def test_a_role_sent_to_an_unknown_one_is_an_error(self):
        found = wrong(MODEL + "orchestration: {role_map: {planner: fats}}")
        assert "sends 'planner' to 'fats', which model.roles does not have" in found["spec"]

    @pytest.mark.parametrize(
        ("routing", "strategy"),
        [("", ""), (", routing: in_order", "in_order"), (", routing: round_robin", "round_robin")],
    )
    def test_are_ranked_as_routing_says(self, routing, strategy):
        assert agent(f"model: {{primary: {{provider: a}}{routing}}}").strategy() == strategy

    def test_of_a_role_are_ranked_as_the_role_says(self):
        found = agent("""
            model:
              default: {candidates: [{provider: a}]}
              roles: {fast: {candidates: [{provider: b}], strategy: latency_optimized}}
              routing: {strategy: cost_optimized, hedge: true, cache_ttl: 60}
            """)
        assert (found.strategy("fast"), found.strategy()) == ("latency_optimized", "cost_optimized")
        assert (found.spec.model.routing.hedge, found.spec.model.routing.cache_ttl) == (True, 60)


def test_an_agent_without_memory_remembers_nothing():
    assert agent(MODEL).conversation is None


def test_a_memory_without_keys_shows_the_newest_twenty_turns():
    found = agent(MODEL + "memory: {conversational: {}}").conversation
    assert found is not None
    assert found.shown() == Strategy("sliding_window", 20)


def test_a_memory_without_keys_is_still_there_once_it_was_written_down():
    written = agent(MODEL + "memory: {conversational: {}}").canonical()
    assert Declaring().from_record(written).conversation is not None


class TestWhereConversationsAreKept:
    def kept(self, conversational: str):
        found = agent(MODEL + f"memory: {{conversational: {conversational}}}").conversation
        assert found is not None
        return found

    def test_is_the_file_where_nothing_is_said(self):
        assert self.kept("{}").place("a") == "sqlite"

    def test_is_a_backend_of_the_mesh_by_its_name(self):
        assert self.kept("{backend: archive}").place("a") == "archive"

    def test_is_its_own_database_where_it_has_an_address(self):
        found = self.kept("{backend: redis, connection: {url: 'redis://h:1/0'}, ttl: 5}")
        assert (found.place("a"), found.ttl) == ("agent:a", 5)

    def test_may_be_said_the_short_way(self):
        found = self.kept("{redis: {url: 'redis://h:1/0', ttl: 5}}")
        assert (found.backend, found.place("a"), found.ttl) == ("redis", "agent:a", 5)

    def test_hides_the_password(self):
        url = "postgresql://u:secret@h/db"
        spec = f"memory: {{conversational: {{backend: postgres, connection: {{url: '{url}'}}}}}}"
        assert "secret" not in str(agent(MODEL + spec).public())

    @pytest.mark.parametrize(
        "conversational",
        [
            "{connection: {url: 'redis://h:1/0'}}",
            "{backend: postgres, connection: {url: 'redis://h:1/0'}}",
            "{backend: redis, connection: {url: 'http://h:1/0'}}",
            "{backend: redis, connection: {host: h}}",
        ],
    )
    def test_is_refused_where_address_and_backend_do_not_fit(self, conversational):
        spec = f"memory: {{conversational: {conversational}}}"
        assert "connection" in wrong(MODEL + spec)["spec.memory.conversational"]

    def test_has_no_address_in_an_agent_from_the_api(self):
        kept = {"backend": "redis", "connection": {"url": "redis://10.0.0.1:6379/0"}}
        manifest = {
            "api_version": "astromesh/v1",
            "kind": "Agent",
            "metadata": {"name": "a"},
            "spec": {
                "model": {"primary": {"provider": "ollama", "model": "m"}},
                "memory": {"conversational": kept},
            },
        }
        with pytest.raises(InvalidInput, match="only agents in files") as caught:
            Declaring().from_api(manifest)
        assert caught.value.violations[0].field == "spec.memory.conversational.connection"


class TestAnswersOfAForm:
    def test_are_asked_for_by_a_json_schema(self):
        schema = {"type": "object", "properties": {"score": {"type": "integer"}}}
        assert agent(MODEL + f"output_schema: {schema}").output_schema == schema

    def test_have_every_part_that_the_short_form_names(self):
        assert agent(MODEL + "output_schema: {score: {type: integer}}").output_schema == {
            "type": "object",
            "properties": {"score": {"type": "integer"}},
            "required": ["score"],
        }

    def test_are_any_text_without_one(self):
        assert agent(MODEL + "output_schema: {}").output_schema is None


class TestToolsThatAreAgents:
    def test_are_named_as_the_agent_unless_they_say_another(self):
        tools = "tools: [{name: a, type: agent}, {name: b, type: agent, agent: c}]"
        assert [tool.sub_agent for tool in agent(MODEL + tools).spec.tools] == ["a", "c"]

    @pytest.mark.parametrize(
        "more", ["rate_limit: {max_calls: 1, window_seconds: 1}", 'function: "a:b"']
    )
    def test_have_no_keys_that_nobody_would_read(self, more):
        assert (
            "neither"
            in wrong(MODEL + f"tools: [{{name: a, type: agent, {more}}}]")["spec.tools[0]"]
        )

    def test_are_what_a_supervisor_needs(self):
        says = wrong(MODEL + "tools: [calculator]\norchestration: {pattern: supervisor}")["spec"]
        assert "a supervisor works through other agents" in says

    def test_are_all_that_a_supervisor_has(self):
        spec = "tools: [calculator, {name: a, type: agent}]\norchestration: {pattern: supervisor}"
        assert [tool.name for tool in agent(MODEL + spec).tools] == ["a"]


class TestWhatLaterVersionsBuild:
    @pytest.mark.parametrize(
        ("spec", "field"),
        [
            ("permissions: {allowed_actions: [x]}", "spec.permissions"),
            ("tools: [{name: t, type: webhook, url: u}]", "spec.tools[0].type"),
        ],
    )
    def test_is_refused_by_name_and_never_ignored(self, spec, field):
        assert re.search("(is|are) not part of this version", wrong(MODEL + spec)[field])

    def test_hides_what_else_is_wrong_inside_it(self):
        assert list(wrong(MODEL + "tools: [{name: t, type: mcp, server: {}}]")) == [
            "spec.tools[0].type"
        ]

    def test_an_empty_section_is_no_use_of_it(self):
        assert agent(MODEL + "guardrails: {input: []}\npermissions:\noutput_schema: {}")
