"""Holds the chat template engine against jinja2, set up as Transformers sets it up."""

import json
import random
import subprocess
import sys
import warnings

import jinja2
import jinja2.ext
import jinja2.sandbox
from campaign import num_trials

TOOL = sys.argv[1]
warnings.simplefilter("ignore")  # of Python about the nonsense that random expressions are


class Generation(jinja2.ext.Extension):
    """Transformers' {% generation %} block: prints its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


# Templates in the manner of the families that must work; each uses the constructs of its family.
CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

LLAMA2 = """{%- if messages[0]['role'] == 'system' %}
    {%- set loop_messages = messages[1:] %}
    {%- set system_message = messages[0]['content'] %}
{%- else %}
    {%- set loop_messages = messages %}
    {%- set system_message = false %}
{%- endif %}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant') }}
    {%- endif %}
    {%- if loop.index0 == 0 and system_message != false %}
        {%- set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
    {%- else %}
        {%- set content = message['content'] %}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + content.strip() + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}"""

LLAMA3 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and tools is defined %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- elif message.content is mapping or message.content is iterable %}
        {{- message.content | tojson }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
"""

QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather of a city, in °C",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def conversations():
    user = {"role": "user", "content": " Hello,\n \"world\" 🙂 <b> "}
    system = {"role": "system", "content": "Be kind."}
    answer = {"role": "assistant", "content": "Hi. "}
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich", "n": 1.5}}}],
    }
    tool = {"role": "tool", "content": "12"}
    yield from ([user], [system, user], [user, answer, user], [system, user, answer, user])
    yield from ([user, user], [user, call, tool, answer], [answer], [{"role": "user", "content": ""}])


def template_cases():
    for template in (CHATML, LLAMA2, LLAMA3, MISTRAL, QWEN):
        for messages in conversations():
            for tools in (None, TOOLS):
                for prompt in (True, False):
                    yield template, {
                        "messages": messages,
                        "tools": tools,
                        "add_generation_prompt": prompt,
                        "bos_token": "<s>",
                        "eos_token": "</s>",
                    }


SNIPPETS = r"""
{{ 1 + 2 * 3 - 4 }}|{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 2 ** 10 }}|{{ 7 / 2 }}|{{ 1 / 4 }}
{{ 1.0 }}|{{ 1e20 }}|{{ 1e-7 }}|{{ 0.1 + 0.2 }}|{{ 1e16 }}|{{ 123456789.125 }}|{{ 2.5 | round }}|{{ 3.14159 | round(2) }}
{{ -2 ** 2 }}|{{ (-2) ** 2 }}|{{ 2 ** -1 }}|{{ not true }}|{{ not none }}|{{ 1 < 2 < 3 }}|{{ 1 < 3 < 2 }}|{{ 3 > 2 >= 2 }}
{{ 'a' ~ 1 ~ none ~ true }}|{{ 'ab' * 3 }}|{{ [1] * 2 }}|{{ [1, 'x', none, true, 1.5] }}|{{ {'a': 1, 'b': [2]} }}
{{ "it's" }}|{{ ['it\'s', "say \"hi\"", 'a\nb\tc\\'] }}|{{ ['é🙂'] }}|{{ () }}
{{ x }}|{{ x.y is defined }}|{{ x is undefined }}|{{ x | default('d') }}|{{ none | default('d') }}|{{ '' | default('d', true) }}
{{ 'a' if true else 'b' }}|{{ 'a' if false }}|{{ 'a' if false else 'b' if false else 'c' }}
{{ s[0] }}|{{ s[-1] }}|{{ s[1:3] }}|{{ s[::-1] }}|{{ s[:-2] }}|{{ l[1:] }}|{{ l[::2] }}|{{ l[::-1] }}|{{ l[5:] }}|{{ l[-2:] }}
{{ s | upper }}|{{ s | length }}|{{ l | length }}|{{ d | length }}|{{ s | first }}|{{ s | last }}|{{ s | reverse }}|{{ s | list }}
{{ l | join(', ') }}|{{ l | sum }}|{{ l | min }}|{{ l | max }}|{{ l | sort }}|{{ l | sort(reverse=true) }}|{{ l | unique | list }}|{{ l | reverse | list }}
{{ 'hello world' | title }}|{{ 'HELLO' | capitalize }}|{{ ' x ' | trim }}|{{ 'a-b' | replace('-', '+') }}|{{ 'aaa' | replace('a', 'b', 2) }}
{{ d.items() | list }}|{{ d.keys() | list }}|{{ d.values() | list }}|{{ d.get('a') }}|{{ d.get('z') }}|{{ d.get('z', 5) }}|{{ d | items | list }}
{{ d | tojson }}|{{ d | tojson(indent=2) }}|{{ [] | tojson }}|{{ {} | tojson(indent=2) }}|{{ '<a>&"é' | tojson }}|{{ none | tojson }}|{{ 1.5 | tojson }}
{{ ' ab '.strip() }}|{{ 'xxabxx'.strip('x') }}|{{ 'xxab'.lstrip('x') }}|{{ 'abxx'.rstrip('x') }}|{{ 'a,b,c'.split(',') }}|{{ 'a b  c'.split() }}|{{ 'a,b,c'.split(',', 1) }}
{{ 'a,b,c'.rsplit(',', 1) }}|{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith('bc') }}|{{ 'abc'.upper() }}|{{ 'ABC'.lower() }}|{{ 'abc'.find('c') }}|{{ 'abab'.count('ab') }}
{{ 'a' in 'abc' }}|{{ 'z' not in 'abc' }}|{{ 1 in l }}|{{ 'a' in d }}|{{ 9 in l }}|{{ 3 is odd }}|{{ 3 is even }}|{{ 6 is divisibleby 3 }}|{{ 6 is divisibleby(4) }}
{{ 1 is number }}|{{ 'a' is string }}|{{ d is mapping }}|{{ l is sequence }}|{{ l is iterable }}|{{ none is none }}|{{ true is boolean }}|{{ 1 is integer }}|{{ 1.5 is float }}|{{ true is true }}
{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ i }},{% endfor %}
{% for i in l if i > 1 %}{{ i }}{% if not loop.last %}-{% endif %}{% else %}none{% endfor %}|{% for i in [] %}x{% else %}empty{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}|{% for i in range(3) %}{{ i }}{% endfor %}|{{ range(2, 8, 3) | list }}|{{ range(3, 0, -1) | list }}
{{ range(0, 10 ** 18 * 9, 10 ** 18 * 8) | list }}|{{ l[::10 ** 18] }}|{{ l[:: -(10 ** 18) * 9] }}|{{ range(1, 2, 0) }}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% set a = 1 %}{% for i in l %}{% set a = a + i %}{{ a }},{% endfor %}{{ a }}|{% set ns = namespace(n=0) %}{% for i in l %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}
{% set t %}block {{ 1 + 1 }}{% endset %}[{{ t }}]|{% set a, b = 1, 2 %}{{ a }}{{ b }}|{% set p = (1, 2) %}{{ p[1] }}
{% macro f(a, b=2) %}<{{ a }},{{ b }}>{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=5, a=4) }}
{% if l %}yes{% elif s %}s{% else %}no{% endif %}|{% if [] %}a{% elif '' %}b{% else %}c{% endif %}
{{ l | map('string') | list }}|{{ m | map(attribute='n') | list }}|{{ m | selectattr('n', 'gt', 1) | map(attribute='n') | list }}|{{ m | rejectattr('n', 'equalto', 1) | list | length }}|{{ l | select('odd') | list }}|{{ l | reject('odd') | list }}
{{ '5' | int }}|{{ 'x' | int }}|{{ 'x' | int(7) }}|{{ '2.5' | float }}|{{ 3.9 | int }}|{{ 5 | string }}|{{ -3 | abs }}|{{ '<a>' | e }}|{{ 'a\nb' | indent(2) }}|{{ 'a\nb' | indent(2, true) }}
{%- if true -%}  trimmed  {%- endif -%}|   {% if true %}
kept line
{% endif %}
  {# comment #}
tail
{% raw %}{{ not rendered }}{% endraw %}|{{ '}}' }}|{{ "{%" }}|{{ {'a': {'b': 1}} }}
{% generation %}said{% endgeneration %}|{{ m[0].n }}|{{ m[0]['n'] }}|{{ m.0.n }}|{{ (1, 2)[0] }}|{{ [[1, 2], [3]] | map('length') | list }}
{{ x.y.z }}
{{ 1 / 0 }}
{{ raise_exception('no') }}
{{ unknown_function() }}
{{ 'a' + 1 }}
{{ 1 < 'a' }}
{% for %}
{{ 1 + }}
{% if true %}
{{ 'a' | nofilter }}
{{ "unclosed }}
"""

VARIABLES = {
    "s": "hello",
    "l": [3, 1, 2, 1],
    "d": {"a": 1, "b": "two", "c": None},
    "m": [{"n": 1, "t": "x"}, {"n": 2, "t": "y"}, {"n": 3, "t": "x"}],
}


# Templates that jinja2 would follow until the stack or the memory ends, and what is said instead.
HOSTILE = [
    ("{% set n = namespace() %}{% set n.x = n %}{{ n }}", "a namespace can not be part"),
    ("{% set n = namespace() %}{% set n.x = [{'n': n}] %}{{ n == n }}", "a namespace can not be part"),
    ("{% set n = namespace(x=1) %}{% for i in range(100000) %}{% set n.x = [n.x] %}{% endfor %}", "nested too deep"),
    ("{% set n = namespace(x=1) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}", "too large"),
    ("{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}", "too large"),
    ("{{ ('a' * 9999999) | replace('a', 'b' * 9999999) }}", "too large"),
    ("{{ ('b' * 9999).join(range(99999)) }}", "too large"),
    ("{{ range(99999) | join('b' * 9999) }}", "too large"),
    ("{{ ('a\\nb' * 9999) | indent('b' * 9999) }}", "too large"),
    ("{{ ([[1] * 999] * 999) | tojson(indent=99) }}", "too large"),
    ("{{ range(1000000) | unique }}", "unique: more than"),
    ("{% for i in range(1000000) %}{{ s }}{% set s = s ~ s[:99] %}{% endfor %}", "too long"),
]


def random_expression(rng, depth):
    if depth == 0:
        return rng.choice(["1", "0", "-3", "2.5", "'ab'", "''", "true", "none", "s", "l", "d", "x", "7", "'A b'", "l[0]", "d.a", "m[1].n"])
    a = random_expression(rng, depth - 1)
    b = random_expression(rng, depth - 1)
    return rng.choice(
        [
            f"({a} + {b})", f"({a} - {b})", f"({a} * 2)", f"({a} // {b})", f"({a} % 3)", f"({a} ~ {b})",
            f"({a} and {b})", f"({a} or {b})", f"(not {a})", f"({a} == {b})", f"({a} != {b})", f"({a} < {b})",
            f"({a} in l)", f"({a} in {b})", f"({a} if {b} else s)", f"[{a}, {b}]", f"({a} is defined)",
            f"({a} is string)", f"({a} is none)", f"({a} is number)", f"({a} | string)", f"({a} | list)",
            f"({a} | length)", f"({a}, {b})", f"({a} ** 2)", f"({a} | default({b}))", f"({a} | tojson)", f"[{a}, {b}][1:]", f"({a} | string)[1:]", f"(s ~ {a})[::-1]",
            f"({a} | first)", f"({a} | join('-'))", f"(({a}) | string | upper)", f"({a} > {b} or {b} < {a})",
        ]
    )  # fmt: skip


def cases():
    yield from template_cases()
    for snippet in SNIPPETS.strip("\n").split("\n"):
        yield snippet, VARIABLES
        for part in snippet.split("|{{"):
            yield ("" if part.startswith("{") else "{{") + part, VARIABLES
    yield SNIPPETS.split("{{ x.y.z }}")[0], VARIABLES
    seed = 20260101
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(num_trials(3000)):
        yield "{{ " + random_expression(rng, rng.randint(1, 3)) + " }}", VARIABLES


def expected(env, template, variables):
    try:
        return env.from_string(template).render(**variables)
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, ZeroDivisionError, OverflowError, AttributeError):
        return None


def main():
    env = environment()
    requests = list(cases())
    lines = "".join(json.dumps({"template": t, "variables": v}) + "\n" for t, v in requests)
    out = subprocess.run([TOOL], input=lines.encode(), stdout=subprocess.PIPE, check=True).stdout
    answers = [json.loads(line) for line in out.decode().splitlines()]
    assert len(answers) == len(requests)
    wrong = 0
    rendered = 0
    for (template, variables), answer in zip(requests, answers):
        want = expected(env, template, variables)
        rendered += want is not None
        if answer.get("text") != want:
            wrong += 1
            if wrong <= 25:
                print(f"template {template!r}\n  jinja2  {want!r}\n  perpend {answer}")
    for template, error in HOSTILE:
        request = json.dumps({"template": template, "variables": VARIABLES})
        out = subprocess.run([TOOL], input=request.encode(), stdout=subprocess.PIPE, check=True, timeout=300).stdout
        said = json.loads(out).get("error", "no error")
        if error not in said:
            wrong += 1
            print(f"template {template!r}\n  expected {error!r}\n  perpend {said!r}")
    print(f"{len(requests)} templates, {rendered} of them valid, {wrong} differ")
    assert wrong == 0


main()
