#!/usr/bin/env python3
"""What pieces of templates give, by Jinja2 set up as Hugging Face Transformers does it.

Usage: snippets.py > ../fixtures/snippets.json
Needs: blake3, jinja2 (its version is written into the output).
"""

import json
import sys

import jinja2

from render_templates import Raised, environment

VARIABLES = {
    "text": " Hello, <World> & 'all' \"of\" you \n",
    "word": "stream",
    "unicode": "Zürich 日本 😀\u2028\u0007",
    "list": [3, 1, 2],
    "words": ["b", "a", "c"],
    "nested": [[1, [2, None]], {"k": True, "f": 0.5}],
    "table": {"b": 1, "a": [1, "x"], "items": "entry", "é": None},
    "empty": [],
    "nothing": None,
    "yes": True,
    "people": [
        {"name": "Ada", "age": 36, "tags": ["x"]},
        {"name": "Bob", "age": 7},
        {"name": "Cyd", "age": 36},
    ],
    "floats": [1.0, 0.1, 1e16, 1e-7, 123456789.125, -0.0],
    "big": 12345678901234567890,
}

SNIPPETS = [
    "{{ text }}|{{ word }}|{{ unicode }}",
    "{{ nothing }} {{ yes }} {{ not yes }} {{ missing }}.",
    "{{ list }} {{ words }} {{ nested }} {{ table }} {{ floats }} {{ big }} {{ empty }}",
    "{{ [text, unicode] }}",
    "{{ (1, 'a') }} {{ (1,) }} {{ () }}",
    "{{ table | tojson }}\n{{ table | tojson(indent=2) }}\n{{ nested | tojson(indent=4) }}",
    "{{ text | tojson }} {{ unicode | tojson }} {{ unicode | tojson(ensure_ascii=true) }}",
    "{{ table | tojson(sort_keys=true) }} {{ table | tojson(separators=(',', ':')) }}",
    "{{ [] | tojson(indent=2) }} {{ {} | tojson }} {{ floats | tojson }} {{ none | tojson }}",
    "{{ {1: 2, none: 4} | tojson }}",
    "{{ 1 + 2 }} {{ 1 + 2.5 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }}",
    "{{ 7 % -3 }} {{ 7.5 % 2 }} {{ -7.5 % 2 }} {{ 1 - 3 }} {{ 3 * 4 }} {{ 1.5 * 2 }}",
    "{{ 'ab' * 3 }}|{{ 3 * 'ab' }}|{{ 'ab' * 0 }}|{{ 'ab' * -1 }}|{{ [1, 2] * 2 }}",
    "{{ 'a' + 'b' + 'c' }} {{ [1] + [2, 3] + empty }} {{ 1 + 2 + 3 }} {{ true + 1 }}",
    "{{ 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1, 'x'] ~ missing ~ '!' }}",
    "{{ 1 ~ 2 + 3 }} {{ 2 + 3 ~ 4 }}",
    "{{ '<b>' | safe + '<i>' }} {{ '<i>' + '<b>' | safe }} {{ '<b>' | safe ~ '<i>' }}",
    "{{ '<a>' | e + '<b>' }} {{ '<a>' | escape }}",
    "{{ word[0] }} {{ word[-1] }} {{ word[1:3] }} {{ word[::-1] }} {{ word[::2] }} {{ word[-3:] }}",
    "{{ list[1:] }} {{ list[::-1] }} {{ list[:-1] }} {{ list[5:] }} {{ empty[::-1] }} {{ list[-2::-1] }}",
    "{{ list[0] }} {{ table['a'][1] }} {{ table.a }} {{ table['é'] }} {{ table.get('x', 'd') }} {{ table.get('b') }}",
    "{{ table.items.upper is defined }} {{ table.keys() | list }} {{ table.values() | list }}",
    "{% for k, v in table.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in table | items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in table %}{{ k }},{% endfor %}{% for c in word %}{{ c }}.{% endfor %}",
    "{% for x in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}"
    "{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }};{% else %}none{% endfor %}",
    "{% for x in empty %}x{% else %}nothing{% endfor %}",
    "{% for x in list if x > 1 %}{{ x }}{{ loop.last }}{% endfor %}",
    "{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}",
    "{% for x in list %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a }}-{{ b }} {% endfor %}",
    "{% for x in list recursive %}{{ x }}{% endfor %}",
    "{% set x = 1 %}{% for i in list %}{% set x = i %}{% endfor %}{{ x }}",
    "{% set ns = namespace(n=0, s='') %}{% for i in list %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.n }} {{ ns.s }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d) = [3, 4] %}{{ c }}{{ d }}",
    "{% set block %}captured {{ word }}{% endset %}[{{ block }}]",
    "{% set block | upper | replace('A', 'x') %}captured{% endset %}[{{ block }}]",
    "{% filter upper %}some {{ word }}{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}",
    "{% macro m(a, b='x', c=3) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 2) }} {{ m(a='k', c=none) }}",
    "{% macro outer() %}[{{ caller() }}]{% endmacro %}{% call outer() %}inside{% endcall %}",
    "{% macro outer() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(x, y) outer() %}{{ x + y }}{% endcall %}",
    "{% if list %}a{% elif yes %}b{% else %}c{% endif %}{% if empty %}a{% elif nothing %}b{% else %}c{% endif %}",
    "{% if yes and not nothing or missing %}a{% endif %}{{ 'x' if missing }}|{{ 'x' if yes else 'y' }}|{{ empty or 'd' }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in word }} {{ 'z' not in word }} {{ 1 in list }} {{ 'b' in table }}",
    "{{ 1 == 1.0 }} {{ 'a' == 'a' }} {{ none == none }} {{ [1] == [1] }} {{ table == table }} {{ 1 != 2 }}",
    "{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip() }}|{{ text | trim }}|{{ 'xxaxx'.strip('x') }}|{{ 'xa' | trim('x') }}",
    "{{ word.upper() }} {{ word.title() }} {{ word | capitalize }} {{ word.startswith('st') }} {{ word.endswith(('x', 'm')) }}",
    "{{ 'a,b,,c'.split(',') }} {{ 'a b  c'.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a\nb'.splitlines() }}",
    "{{ 'aXbXc'.replace('X', '-') }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 'aXbXc'.replace('X', '-', 1) }} {{ 'ab' | replace('', '-') }}",
    "{{ word.find('r') }} {{ word.count('s') }} {{ '-'.join(words) }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.py'.removesuffix('.py') }}",
    "{{ words | join(', ') }} {{ list | join }} {{ people | join('; ', attribute='name') }}",
    "{{ words | sort }} {{ list | sort(reverse=true) }} {{ people | sort(attribute='age') | map(attribute='name') | list }}",
    "{{ people | selectattr('age', 'equalto', 36) | map(attribute='name') | join(',') }} {{ people | rejectattr('tags') | list | length }}",
    "{{ list | select('odd') | list }} {{ list | reject('>', 1) | list }} {{ words | map('upper') | list }}",
    "{{ list | first }} {{ list | last }} {{ list | length }} {{ list | sum }} {{ list | min }} {{ list | max }} {{ word | length }}",
    "{{ [1, 1, 2] | unique | list }} {{ list | reverse | list }} {{ word | reverse }} {{ table | dictsort | list | length }}",
    "{{ missing | default('d') }} {{ '' | default('d', true) }} {{ nothing | default('d') }} {{ missing | d('e') }}",
    "{{ '3' | int + 1 }} {{ '2.5' | float }} {{ 3.7 | int }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ '-12' | int }} {{ ' 4.9 ' | int }} {{ none | int }} {{ true | int }} {{ 'x' | float }} {{ 3 | float }} {{ -3 | abs }} {{ 2.567 | round(1) }}",
    "{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb\n\nc' | indent(2, true) }}|{{ 'a\n\nb' | indent(width=1, blank=true) }}",
    "{{ '%s-%d' | format('a', 3) }} {{ '{}-{}'.format('a', 3) }}",
    "{{ [1, 'a', none] | string }} {{ 1.0 | string }} {{ yes | string }} {{ 'abc' | list }}",
    "{{ yes is true }} {{ yes is boolean }} {{ 1 is number }} {{ yes is number }} {{ 1.0 is float }} {{ 1 is integer }} {{ 'a' is string }}",
    "{{ list is iterable }} {{ word is iterable }} {{ nothing is iterable }} {{ table is mapping }} {{ list is sequence }} {{ table is sequence }}",
    "{{ missing is defined }} {{ missing is undefined }} {{ nothing is none }} {{ missing is none }} {{ table.x is defined }}",
    "{{ 3 is odd }} {{ 4 is divisibleby 2 }} {{ 'A' is upper }} {{ 1 is in [1, 2] }} {{ 1 is eq 1 }} {{ 1 is not none }}",
    "{{ range(3) | list }} {{ range(1, 6, 2) | list }} {% for i in range(3, 0, -1) %}{{ i }}{% endfor %}",
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc\n",
    "a {%- if yes -%} b {%- endif -%} c",
    "a\n    {%+ if yes %}\n b {% endif +%}\n c",
    "{# comment #}\nx {#- trimmed -#} y\n",
    "{% raw %}{{ not }} {% tags %}{% endraw %} {{ word }}",
    "  {{ word }}  \n\n  {{- word }}\n",
    "line\r\nnext {{ 1 }}\r\n",
    "{% generation %}{% set inner = 1 %}said {{ word }}{% endgeneration %}\n{{ inner is defined }}",
    "{{ strftime_now('%d %b %Y, %H:%M:%S') }}",
    "{{ 'quote \\' \\\" back \\\\ tab\\t nl\\n u\\u00e9' }}",
    "{{ \"it's\" }} {{ [\"it's\", 'say \"x\"', 'both \\' \"'] }}",
    "{{ raise_exception('my own words: ' ~ word) }}",
    "{{ 'a' + 1 }}",
    "{{ missing.attribute }}",
    "{{ missing + 'a' }}",
    "{% for x in nothing %}{% endfor %}",
    "{{ list.attribute.other }}",
    "{{ dict(a=1, b='x') }} {{ dict(a=1).a }}",
    "{{ 0.1 + 0.2 }} {{ 1e3 }} {{ 5 // 0.3 }} {{ 10 ** 20 }} {{ 1_000 }}",
    "{{ -list[0] }} {{ - 2 }} {{ -2 | abs }} {{ not missing }}",
    "{{ people[0].name }} {{ people[0]['tags'][0] }} {{ people[-1].age }} {{ people[9] is defined }}",
    "{{ (1 + 2) * 3 }} {{ 1 + 2 * 3 }} {{ (yes or nothing) and 'x' }} {{ 'a' ~ ('b' if nothing else 'c') ~ 'd' }}",
    "{{ {'a': 1, 'b': [1, 2]} }} {{ {'x': word}['x'] }} {{ [word, list][1][0] }}",
    "{% if 'x' in missing %}a{% else %}b{% endif %}{{ missing | length }}{{ missing | list }}",
    "{{ word | upper | lower | title }}",
]


def main():
    env = environment()
    entries = []
    for source in SNIPPETS:
        entry = {"template": source}
        try:
            entry["text"] = env.from_string(source).render(**VARIABLES)
        except Raised as error:
            entry["raises"] = str(error)
        except Exception as error:
            entry["fails"] = repr(error)
        entries.append(entry)
    record = {"jinja2": jinja2.__version__, "variables": VARIABLES, "snippets": entries}
    json.dump(record, sys.stdout, indent=1, ensure_ascii=True)
    print()


if __name__ == "__main__":
    main()
