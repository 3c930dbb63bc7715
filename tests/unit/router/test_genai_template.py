"""Chat templates of real models use more than Jinja has."""

import pytest
from jinja2 import TemplateError

from servers.router.adapters.genai.template import ChatTemplate, Refusal

HELLO = [{"role": "user", "content": "<b>\u00fc</b>"}]


def render(text: str, messages=HELLO, tools=(), **settings) -> str:
    return ChatTemplate(text, {"bos_token": "<s>"}).render(messages, tools, settings)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("{{ bos_token }}{{ messages[0]['content'] }}", "<s><b>\u00fc</b>"),
        ("{{ messages[0].content | tojson }}", '"<b>\u00fc</b>"'),
        ("{{ {'a': [1]} | tojson(indent=1) }}", '{\n "a": [\n  1\n ]\n}'),
        ("{% for m in messages %}{% generation %}x{% endgeneration %}{% endfor %}", "x"),
        ("{% for n in [1, 2, 3] %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}", "1"),
        ("{% if true %}\n  a\n{% endif %}\n", "  a\n"),
        ("{{ 'go' if add_generation_prompt }}", "go"),
        ("{{ tools is none }}", "True"),
        ("{{ thinking }}", "False"),
        ("{{ strftime_now('%%') }}", "%"),
    ],
)
def test_a_template_may_use(text, prompt):
    assert render(text, thinking=False) == prompt


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content + 1 }}", "str"),
        ("{{ messages[7].content.x }}", "no element"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_what_a_template_can_not_write_is_refused(text, match):
    with pytest.raises(Refusal, match=match):
        render(text)


def test_settings_do_not_hide_the_conversation():
    assert render("{{ messages | length }}", messages=HELLO * 2, **{"bos_token": "x"}) == "2"
    assert ChatTemplate("{{ messages | length }}", {}).render(HELLO, (), {"messages": []}) == "1"


def test_what_is_no_template_is_told():
    with pytest.raises(TemplateError):
        ChatTemplate("{% if %}", {})
