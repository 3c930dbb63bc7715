import pytest

from servers.domain.chat import Message, Role, Text, says
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.triton.chat_template import ChatTemplate

TALK = (says(Role.SYSTEM, "Be kind."), says(Role.USER, "Hi!"))


class TestAChat:
    def test_is_a_transcript_where_there_is_no_template(self):
        assert ChatTemplate().render(TALK) == "system: Be kind.\nuser: Hi!\nassistant:"

    def test_may_have_a_message_in_several_parts(self):
        said = Message(Role.USER, (Text("Hi"), Text("!")))
        assert ChatTemplate().render((said,)) == "user: Hi!\nassistant:"

    def test_follows_a_template_in_hugging_face_s_manner(self):
        template = """\
{{ bos_token }}
{%- for message in messages %}
    {%- if loop.index > 2 %}{% break %}{% endif %}
    {{- '<' + message['role'] + '>' + message['content'] | trim + eos_token }}
{%- endfor %}
{%- if add_generation_prompt and not tools %}{{ '<assistant>' }}{% endif %}"""
        prompt = ChatTemplate(template, "<s>", "</s>").render((*TALK, *TALK))
        assert prompt == "<s><system>Be kind.</s><user>Hi!</s><assistant>"

    def test_has_no_html_in_the_place_of_its_letters(self):
        assert ChatTemplate("{{ messages[0].content }}").render((says(Role.USER, "<a> & b"),)) == (
            "<a> & b"
        )

    def test_shows_json_as_it_is(self):
        prompt = ChatTemplate("{{ messages | tojson }}").render((says(Role.USER, "ü<"),))
        assert prompt == '[{"role":"user","content":"ü<"}]'

    def test_is_refused_where_the_template_says_so(self):
        template = "{{ raise_exception('roles must alternate') }}"
        with pytest.raises(InvalidInput, match="roles must alternate"):
            ChatTemplate(template).render(TALK)

    @pytest.mark.parametrize(
        "template", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ 1 / 0 }}"]
    )
    def test_that_a_template_can_not_make_is_no_fault_of_the_caller(self, template):
        with pytest.raises(NotReady, match="chat_template") as caught:
            ChatTemplate(template).render(TALK)
        assert caught.value.reason == "PROMPT_FAILED"


class TestATemplate:
    def test_may_be_in_a_file(self, tmp_path):
        (tmp_path / "chat.jinja").write_text("{{ messages[0].content }}")
        assert ChatTemplate(str(tmp_path / "chat.jinja")).render(TALK) == "Be kind."

    def test_that_is_faulty_is_told_with_its_line(self):
        with pytest.raises(NotReady, match="line 2: "):
            ChatTemplate("{{ messages }}\n{% for %}")

    @pytest.mark.parametrize("name", ["/nowhere/chat.jinja", "chat\0jinja"])
    def test_that_is_not_there_is_named(self, name):
        with pytest.raises(NotReady, match="neither a template nor a file"):
            ChatTemplate(name)
