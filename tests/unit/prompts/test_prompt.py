"""An agent's system prompt: what it is made of, and what a template may cost."""

import pytest

from servers.agents.manifest import Agent
from servers.agents.prompts import Prompt, wrong_prompts
from servers.kernel.errors import NotReady


def agent(system: str = "", identity=None, **prompts) -> Agent:
    return Agent.model_validate(
        {
            "api_version": "astromesh/v1",
            "kind": "Agent",
            "metadata": {"name": "a", "version": "2"},
            "spec": {
                "model": {"primary": {"provider": "ollama"}},
                "identity": identity or {},
                "prompts": {"system": system, **prompts},
            },
        }
    )


def rendered(system: str, context=None, **prompts) -> str:
    return Prompt(agent(system, **prompts)).render(context or {}, now=0.0)


def wrong(system: str = "", **prompts) -> list[tuple[str, str]]:
    return [
        (".".join(map(str, path)), says) for path, says in wrong_prompts(agent(system, **prompts))
    ]


class TestAPrompt:
    def test_is_the_identity_then_system_then_context(self):
        identity = {"role": "cook", "personality": "kind"}
        prompt = Prompt(agent("Cook.\n", identity, context="Today: {{ dish }}"))
        assert prompt.render({"dish": "soup"}, now=0.0) == (
            "Your role: cook\nYour manner: kind\n\nCook.\n\nToday: soup"
        )

    def test_is_empty_where_nothing_is_said(self):
        assert rendered("") == ""

    def test_leaves_out_what_renders_to_nothing(self):
        assert rendered("hi", context="{{ nothing }}") == "hi"

    def test_knows_variables_and_the_requests_context_which_wins(self):
        assert rendered("{{ a }}{{ b }}", {"b": 3}, variables={"a": 1, "b": 2}) == "13"

    def test_knows_both_as_a_whole_too(self):
        text = "{{ variables.b }}{{ context.b }}"
        assert rendered(text, {"b": 3}, variables={"b": 2}) == "23"

    def test_knows_the_agent_and_the_time(self):
        assert rendered("{{ agent.name }} {{ agent.version }} {{ now.date() }}") == "a 2 1970-01-01"

    def test_may_include_named_templates(self):
        text = "{% include 'tone' %}"
        assert rendered(text, templates={"tone": "Be {{ how }}."}, variables={"how": "brief"}) == (
            "Be brief."
        )

    @pytest.mark.parametrize("text", ["{{ a }}", "{{ a.b.c }}", "{{ a['b'][0].c }}"])
    def test_renders_what_is_undefined_as_nothing_also_when_nested(self, text):
        assert rendered(f"[{text}]") == "[]"

    def test_is_not_escaped_as_html(self):
        assert rendered("{{ x }}", {"x": "<b>"}) == "<b>"

    def test_does_not_render_what_the_context_contains(self):
        assert rendered("{{ x }}", {"x": "{{ 1 + 1 }}"}) == "{{ 1 + 1 }}"


class TestAMistake:
    def test_in_the_syntax_is_found_when_declared_with_field_and_line(self):
        assert wrong("hello\n{% if %}") == [
            (
                "spec.prompts.system",
                "line 2 of the template: Expected an expression, got 'end of statement block'",
            )
        ]

    def test_in_a_named_template_is_found_too(self):
        assert wrong(templates={"t": "{{"})[0][0] == "spec.prompts.templates.t"

    def test_in_the_name_of_an_include_is_found_too(self):
        assert (
            "includes 'x', which spec.prompts.templates does not have"
            in wrong("{% include 'x' %}")[0][1]
        )

    def test_in_the_name_of_a_filter_is_found_too(self):
        assert "No filter named 'uper'" in wrong("{{ x | uper }}")[0][1]

    def test_of_length_is_found_too(self):
        assert wrong("x" * 70_000) == [("spec.prompts.system", "longer than 65536 characters")]

    def test_that_shows_only_when_rendered_names_agent_and_field(self):
        with pytest.raises(NotReady) as caught:
            rendered("{{ 1 / 0 }}")
        assert caught.value.reason == "PROMPT_FAILED"
        assert caught.value.message == (
            "agent 'a': spec.prompts.system can't be rendered: ZeroDivisionError: division by zero"
        )


BIG = "a" * 200_000


class TestTheSandbox:
    @pytest.mark.parametrize(
        "text", ["{{ ''.__class__.__mro__ }}", "{{ cycler.__init__.__globals__.os }}"]
    )
    def test_keeps_python_out_of_reach(self, text):
        assert rendered(text) == ""

    def test_lets_nothing_be_changed(self):
        with pytest.raises(NotReady):
            rendered("{{ context.update({'a': 1}) }}")

    @pytest.mark.parametrize(
        "text",
        [
            "{% for a in range(999) %}{% for b in range(999) %}{% endfor %}{% endfor %}",
            "{% for a in big %}{% for b in big %}{% endfor %}{% endfor %}",
            "{% macro f(n) %}{{ f(n-1) if n }}{{ f(n-1) if n }}{% endmacro %}{{ f(60) }}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% include 'again' %}",
            "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
        ],
    )
    def test_ends_what_would_not_end(self, text):
        with pytest.raises(NotReady):
            rendered(text, {"big": BIG}, templates={"again": "{% include 'again' %}"})

    @pytest.mark.parametrize(
        "text",
        [
            "{{ big }}{{ big }}",
            "{{ 'a' * 10**9 }}",
            "{{ [1] * 10**9 }}",
            "{{ 9**9**9 }}",
            "{{ range(10**9) | list }}",
            "{{ '%999999999d' % 1 }}",
            "{{ '{:999999999}'.format(1) }}",
            "{{ 'a'.center(999999999) }}",
            "{{ 'a'.ljust(999999999) }}",
            "{{ 'aaaa'.replace('', big) }}",
            "{{ 'aaaa' | replace('a', big) }}",
            "{{ ['a', 'b', 'c'] | join(big) }}",
            "{{ [big, big] | tojson }}",
            "{{ [big, big] }}",
            "{{ [[big] * 9] * 9 | string }}",
            "{% set x %}{{ big }}{{ big }}{% endset %}",
            "{% set n = namespace(x=big) %}{% for i in range(50) %}"
            "{% set n.x = n.x ~ n.x %}{% endfor %}",
            "{% set n = namespace(x=big) %}{% for i in range(50) %}"
            "{% set n.x = n.x + n.x %}{% endfor %}",
        ],
    )
    def test_stops_what_would_grow_large(self, text):
        with pytest.raises(NotReady):
            rendered(text, {"big": BIG})

    def test_leaves_ordinary_templates_alone(self):
        text = (
            "{% for item in items if item.ok %}{{ loop.index }}/{{ loop.length }} "
            "{{ item.name | upper }}{% if not loop.last %}, {% endif %}{% endfor %}"
            "{{ items | map(attribute='name') | join('+') }} {{ {'a': [1]} | tojson }}"
        )
        items = [{"name": "x", "ok": True}, {"name": "y", "ok": True}, {"name": "z"}]
        assert rendered(text, {"items": items}) == '1/2 X, 2/2 Yx+y+z {"a": [1]}'
