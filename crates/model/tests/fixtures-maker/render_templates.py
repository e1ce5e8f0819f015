#!/usr/bin/env python3
"""What chat templates give, by Jinja2 set up as Hugging Face Transformers does it.

Usage: render_templates.py TEMPLATES_FOLDER [TEXT_FOLDER] > ../fixtures/rendered_templates.json
Needs: blake3, jinja2 (its version is written into the output).

Each entry, by file name of the template and name of the conversation: length and BLAKE3 of the text, or
the words of `raise_exception`, or how Jinja2 itself fails. With TEXT_FOLDER, the texts are written
there, to look at differences.
"""

import datetime
import json
import sys
from pathlib import Path

import blake3
import jinja2
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2026, 3, 5, 14, 7, 9)


class Raised(jinja2.TemplateError):
    pass


class Generation(jinja2.ext.Extension):
    """`{% generation %}`: marks what the model said; adds nothing."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: NOW.strftime(form)
    return env


def render(template, case):
    return template.render(
        messages=case["messages"], tools=case.get("tools"), documents=None,
        add_generation_prompt=case["add_generation_prompt"],
        **{"bos_token": "<s>", "eos_token": "</s>", **case.get("variables", {})})


def main():
    folder = Path(sys.argv[1])
    texts = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    here = Path(__file__).resolve().parent.parent / "fixtures"
    cases = json.loads((here / "conversations.json").read_text())
    env = environment()
    rendered = {}
    for path in sorted(folder.glob("*.jinja")):
        template = env.from_string(path.read_text())
        entry = rendered[path.name] = {}
        for case in cases:
            try:
                text = render(template, case)
            except Raised as error:
                entry[case["name"]] = {"raises": str(error)}
            except Exception as error:
                entry[case["name"]] = {"fails": repr(error)}
            else:
                raw = text.encode()
                entry[case["name"]] = {"bytes": len(raw), "blake3": blake3.blake3(raw).hexdigest()}
                if texts:
                    (texts / f"{path.name}.{case['name']}.txt").write_bytes(raw)
    record = {"jinja2": jinja2.__version__, "rendered": rendered}
    json.dump(record, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
