from importlib.resources import files

from openlathe.frontend.render import ChatRenderer

TEMPLATE = files("openlathe_plugin_chat_templates") / "templates" / "chatml.jinja"

PROMPT = """\
<|im_start|>system
Be brief.<|im_end|>
<|im_start|>user
Hi<|im_end|>
<|im_start|>assistant
Hello!<|im_end|>
<|im_start|>user
What now?<|im_end|>
<|im_start|>assistant
"""


def test_golden() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "What now?"},
    ]
    assert ChatRenderer(TEMPLATE.read_text(encoding="utf-8"), {}).render(messages) == PROMPT
