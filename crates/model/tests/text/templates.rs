//! Chat templates: real ones against Jinja2, our own, and hostile ones.

use serde_json::{Map, Value, json};
use shoal_base::{Digest, ToolFormat};
use shoal_model::template::{
    BuiltinTemplate, ChatTemplate, TEMPLATE_BYTES_MAX, TemplateDate, TemplateError, TemplateInput,
};

use crate::support;

const CONVERSATIONS: &str = include_str!("../fixtures/conversations.json");
/// Made by `fixtures-maker/render_templates.py`.
const RENDERED: &str = include_str!("../fixtures/rendered_templates.json");

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Renders a conversation as the script does.
fn render(template: &ChatTemplate, case: &Value) -> Result<String, TemplateError> {
    let date = TemplateDate::new(2026, 3, 5).and_then(|date| date.at_second(50_829));
    template.render(&TemplateInput {
        messages: list(&case["messages"]),
        tools: list(&case["tools"]),
        variables: case["variables"].as_object(),
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
        bos_token: Some("<s>"),
        eos_token: Some("</s>"),
        date: date.unwrap(),
    })
}

#[test]
fn published_templates_render_as_jinja2_renders_them() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let folder = data.join("tokenizers/ggerganov+llama.cpp/models/templates");
    let conversations: Vec<Value> = serde_json::from_str(CONVERSATIONS).unwrap();
    let record: Value = serde_json::from_str(RENDERED).unwrap();
    let record = record["rendered"].as_object().unwrap();
    assert_eq!(record.len(), 17);
    let mut wrong = Vec::new();
    for (file, expected) in record {
        let template = ChatTemplate::parse(&support::read_text(folder.join(file))).unwrap();
        for case in &conversations {
            let name = case["name"].as_str().unwrap();
            let expected = &expected[name];
            let got = render(&template, case);
            let field = |name: &str| expected.get(name).and_then(Value::as_str);
            let same = match &got {
                // Lists that filters make are lists here.
                Ok(_) if field("fails").is_some_and(|words| words.contains("generator")) => true,
                Ok(text) => field("blake3") == Some(&Digest::of(text.as_bytes()).to_string()),
                Err(TemplateError::Raised { message }) => field("raises") == Some(message),
                Err(TemplateError::Failed { .. }) => field("fails").is_some(),
                Err(_) => false,
            };
            if !same {
                wrong.push(format!("{file}: {name}: {expected}, not {got:?}"));
                if let (Some(folder), Ok(text)) = (std::env::var_os("SHOAL_TEST_OUT"), &got) {
                    let out = std::path::Path::new(&folder).join(format!("{file}.{name}.txt"));
                    std::fs::write(out, text).unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
}

/// Made by `fixtures-maker/snippets.py`.
const SNIPPETS: &str = include_str!("../fixtures/snippets.json");

#[test]
fn pieces_of_templates_render_as_jinja2_renders_them() {
    let record: Value = serde_json::from_str(SNIPPETS).unwrap();
    let snippets = list(&record["snippets"]);
    assert!(snippets.len() > 80);
    let date = TemplateDate::new(2026, 3, 5).and_then(|date| date.at_second(50_829));
    let mut wrong = Vec::new();
    for snippet in snippets {
        let source = snippet["template"].as_str().unwrap();
        let field = |name: &str| snippet.get(name).and_then(Value::as_str);
        let got = ChatTemplate::parse(source).and_then(|template| {
            template.render(&TemplateInput {
                variables: record["variables"].as_object(),
                date: date.unwrap(),
                ..TemplateInput::default()
            })
        });
        let same = match &got {
            Ok(text) => field("text") == Some(text),
            Err(TemplateError::Raised { message }) => field("raises") == Some(message),
            Err(TemplateError::Failed { .. }) => field("fails").is_some(),
            Err(_) => false,
        };
        if !same {
            wrong.push(format!("{source}\n{:?}\n{got:?}", field("text")));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n\n"));
}

fn limit_of(source: &str) -> Result<String, TemplateError> {
    let long = json!({"role": "user", "content": "x".repeat(1 << 20)});
    let messages = [long, json!({"role": "user", "content": "Hello"})];
    ChatTemplate::parse(source)?
        .render(&TemplateInput { messages: &messages, ..TemplateInput::default() })
}

#[test]
fn templates_that_use_too_much_are_stopped() {
    let memory = "memory of the template";
    let work = "work of the template";
    let instructions = "instructions";
    let nesting = "lists in lists";
    let text = "length of the text";
    let loops = |body: &str| {
        let start = "{% set ns = namespace(s='x', l=[1]) %}{% for i in range(99999) %}";
        format!("{start}{body}{{% endfor %}}")
    };
    let cases = [
        (loops("{% for j in range(99999) %}{% endfor %}"), instructions),
        (loops("{% set ns.s = ns.s ~ ns.s %}"), memory),
        (loops("{% set ns.s = ns.s + ns.s %}"), memory),
        (loops("{% set ns.s = ns.s * 2 %}"), memory),
        (loops("{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}"), memory),
        (loops("{% set ns.s = ns.s | replace('x', 'xx') %}"), memory),
        (loops("{% set ns.s = ns.s.replace('x', 'xx') %}"), memory),
        (loops("{% set ns.s = [ns.s, ns.s] | join %}"), memory),
        (loops("{% set ns.s = ''.join([ns.s, ns.s]) %}"), memory),
        (loops("{% set ns.s = ns.s | tojson %}"), memory),
        (loops("{% set ns.s = '{}{}'.format(ns.s, ns.s) %}"), memory),
        (loops("{% set ns.s = '%s%s' | format(ns.s, ns.s) %}"), memory),
        (loops("{% set ns.l = ns.l + ns.l %}"), memory),
        (loops("{% set ns.l = ns.l * 2 %}"), memory),
        (loops("{% set ns.l = [ns.l] %}"), nesting),
        (loops("{% set ns.l = {'a': ns.l} %}"), nesting),
        (loops("{% set ns.l = [ns.l, ns.l] %}"), work),
        ("{{ 'a' * 999999999999 }}".to_owned(), memory),
        ("{{ ['a' * 9999999] * 9999999 }}".to_owned(), memory),
        ("{{ ([messages[0].content] * 1000) | string | length }}".to_owned(), memory),
        ("{{ ([messages[0].content] * 1000) | tojson }}".to_owned(), memory),
        ("{{ messages[0].content * 9 }}".to_owned(), text),
        (format!("{{% for i in range(9999) %}}{}{{% endfor %}}", "long text ".repeat(999)), text),
        (
            format!(
                "{{% set x %}}{{% for i in range(99999) %}}{}{{% endfor %}}{{% endset %}}",
                "y".repeat(9999)
            ),
            memory,
        ),
        (
            "{% set a = messages[0].content %}{% set b = a ~ '' %}{% for i in range(99999) %}\
             {% if a == b %}{% endif %}{% endfor %}"
                .to_owned(),
            work,
        ),
        (loops("{% if messages[0].content | length %}{% endif %}"), work),
        (loops("{% if 'y' in messages[0].content %}{% endif %}"), work),
        (loops("{% if messages[0].content.strip('y') %}{% endif %}"), memory),
        (loops("{% if messages[0].content[9] %}{% endif %}"), work),
    ];
    let mut wrong = Vec::new();
    for (source, what) in cases {
        let got = limit_of(&source);
        if got != Err(TemplateError::Limit { what }) {
            let got = got.map(|text| text.len());
            wrong.push(format!("{source:.150}: {got:?}, not {what}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn lists_do_not_stand_on_one_another() {
    // Each step would be one more level of the stack when the last list is gone over.
    for step in ["ns.l | reverse", "ns.l[::-1]", "ns.l | map('string')", "ns.l + []", "ns.l | list"]
    {
        let source = format!(
            "{{% set ns = namespace(l=['a', 'b']) %}}{{% for i in range(50000) %}}\
             {{% set ns.l = {step} %}}{{% endfor %}}{{{{ ns.l }}}}"
        );
        assert_eq!(limit_of(&source).unwrap(), "['a', 'b']", "{step}");
    }
}

#[test]
fn templates_that_cannot_be_used_are_refused_when_parsed() {
    let refusal = |source: &str| ChatTemplate::parse(source).unwrap_err().to_string();
    for (source, name) in [
        ("{% include 'x' %}", "include"),
        ("{% extends 'x' %}", "extends"),
        ("{% import 'x' as y %}", "import"),
        ("{% from 'x' import y %}", "import"),
        ("{% block x %}{% endblock %}", "block"),
        ("{% autoescape true %}{% endautoescape %}", "autoescape"),
    ] {
        assert_eq!(refusal(source), format!("`{name}` is not supported in chat templates"));
    }
    assert_eq!(refusal("a\n{% if %}"), "template, line 2: syntax error: unexpected end of block");
    assert_eq!(
        refusal("a\n\n{% for x in y %}"),
        "template, line 3: syntax error: unexpected end of input, expected end of block"
    );
    let long = " ".repeat(TEMPLATE_BYTES_MAX + 1);
    assert_eq!(refusal(&long), "template of 262145 bytes, limit 262144");
}

#[test]
fn templates_that_are_nested_without_end_are_refused() {
    let cases = [
        format!("{{{{ {}1{} }}}}", "(".repeat(60_000), ")".repeat(60_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(60_000), "]".repeat(60_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(60_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(200_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(60_000)),
        format!("{{{{ 1{} }}}}", " - 1".repeat(60_000)),
        format!("{{{{ x{} }}}}", ".a".repeat(100_000)),
        format!("{{{{ x{} }}}}", "[0]".repeat(60_000)),
        format!("{{{{ x{} }}}}", "|e".repeat(100_000)),
        format!("{{{{ x{} }}}}", "()".repeat(100_000)),
        format!("{{{{ x{} }}}}", " if x".repeat(50_000)),
        format!("{{{{ x{} }}}}", " if x else x".repeat(20_000)),
        format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(20_000)),
        "{% if x %}".repeat(20_000),
        "{% for x in y %}".repeat(15_000),
        "{% macro m() %}".repeat(15_000),
        format!("{{% if x %}}{}", "{% else %}{% if x %}".repeat(10_000)),
    ];
    for source in cases {
        let got = ChatTemplate::parse(&source)
            .and_then(|template| template.render(&TemplateInput::default()));
        assert!(got.is_err(), "{source:.60}");
    }
}

#[test]
fn templates_as_nested_as_allowed_leave_the_stack_alone() {
    let mut parsed = 0;
    for count in [20, 60, 100, 120, 140, 240, 250] {
        let times = |part: &str| part.repeat(count);
        for source in [
            format!("{{{{ {}1{} }}}}", times("("), times(")")),
            format!("{{{{ {}1{} }}}}", times("["), times("]")),
            format!("{{{{ {}1 }}}}", times("not ")),
            format!("{{{{ {}1 }}}}", times("-")),
            format!("{{{{ 1{} }}}}", times(" + 1")),
            format!("{{{{ 1{} }}}}", times(" - 1")),
            format!("{{{{ 1{} }}}}", times(" ~ 1")),
            format!("{{{{ messages{} }}}}", times(".a")),
            format!("{{{{ messages{} }}}}", times("[0]")),
            format!("{{{{ messages{} }}}}", times("|e")),
            format!("{{{{ 1{} }}}}", times(" if 1 else 1")),
            format!("{{{{ 1{} }}}}", times(" if 1")),
            format!("{{{{ {}1{} }}}}", times("{1: "), times("}")),
            format!("{{{{ {}1{} }}}}", times("range("), times(")")),
            format!("{{% if 0 %}}{}{{% endif %}}", times("{% elif 0 %}")),
            times("{% if 1 %}") + &times("{% endif %}"),
            times("{% for x in [1] %}") + &times("{% endfor %}"),
            times("{% set x %}") + &times("{% endset %}"),
        ] {
            if let Ok(template) = ChatTemplate::parse(&source) {
                parsed += 1;
                let rendered = template.render(&TemplateInput::default());
                assert_ne!(rendered, Err(TemplateError::Engine), "{source:.60}");
            }
        }
    }
    assert!(parsed > 50, "{parsed}");
}

#[test]
fn what_fails_says_where() {
    let render = |source: &str| {
        let template = ChatTemplate::parse(source).unwrap();
        template.render(&TemplateInput::default()).unwrap_err().to_string()
    };
    let source = "line 1\n{% if true %}\n{{ 'text\nof two lines' }}\n\n{{ missing.x }}{% endif %}";
    assert_eq!(render(source), "template, line 6: undefined value");
    assert_eq!(
        render("\n{{ nothing() }}"),
        "template, line 2: unknown function: nothing is unknown"
    );
    assert_eq!(render("{{ raise_exception('No.') }}"), "No.");
    let endless = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    let words = "template, line 1: invalid operation: recursion limit exceeded";
    assert_eq!(render(endless), words);
    assert_eq!(
        render("{% set ns = namespace() %}{% set ns.a = ns %}"),
        "template, line 1: invalid operation: a namespace cannot be compared or stored"
    );
    assert_eq!(
        render("{% set ns = namespace() %}{% set ns.a = [range] %}"),
        "template, line 1: invalid operation: a function cannot be stored"
    );
}

#[test]
fn a_conversation_that_is_nested_too_deep_is_refused() {
    let template = ChatTemplate::parse("{{ messages | tojson }}").unwrap();
    let nested = |depth: usize| (1..depth).fold(json!(1), |inner, _| json!([inner]));
    let render = |message: Value| {
        template.render(&TemplateInput { messages: &[message], ..TemplateInput::default() })
    };
    assert!(render(nested(63)).is_ok());
    assert_eq!(render(nested(64)), Err(TemplateError::Depth { limit: 63 }));
}

#[test]
fn our_own_templates_render_conversations() {
    let messages = [
        json!({"role": "system", "content": "Be brief. "}),
        json!({"role": "user", "content": "Hello"}),
    ];
    let render = |builtin: BuiltinTemplate| {
        let template = ChatTemplate::parse(builtin.source()).unwrap();
        template.render(&TemplateInput {
            messages: &messages,
            bos_token: Some("<s>"),
            add_generation_prompt: true,
            ..TemplateInput::default()
        })
    };
    assert_eq!(
        render(BuiltinTemplate::ChatMl).unwrap(),
        "<|im_start|>system\nBe brief. <|im_end|>\n<|im_start|>user\nHello<|im_end|>\n\
         <|im_start|>assistant\n"
    );
    assert_eq!(
        render(BuiltinTemplate::Llama3).unwrap(),
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
    assert_eq!(render(BuiltinTemplate::Plain).unwrap(), "<s>Be brief.\n\nUser: Hello\nAssistant:");
    for builtin in BuiltinTemplate::ALL {
        assert!(builtin.source().is_ascii(), "{}", builtin.name());
    }
}

#[test]
fn published_templates_tell_how_tools_are_called() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let folder = data.join("tokenizers/ggerganov+llama.cpp/models/templates");
    for (file, format) in [
        ("Qwen-Qwen2.5-7B-Instruct", Some(ToolFormat::Hermes)),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", Some(ToolFormat::Hermes)),
        ("meta-llama-Llama-3.1-8B-Instruct", Some(ToolFormat::Llama)),
        ("meta-llama-Llama-3.2-3B-Instruct", Some(ToolFormat::Llama)),
        ("mistralai-Mistral-Nemo-Instruct-2407", Some(ToolFormat::Mistral)),
        ("google-gemma-2-2b-it", None),
        ("microsoft-Phi-3.5-mini-instruct", None),
        ("meetkai-functionary-medium-v3.1", None),
    ] {
        let text = support::read_text(folder.join(format!("{file}.jinja")));
        assert_eq!(ChatTemplate::parse(&text).unwrap().tool_format(), format, "{file}");
    }
}

#[test]
fn a_template_without_a_place_for_tools_has_no_form() {
    let format = |text: &str| ChatTemplate::parse(text).unwrap().tool_format();
    assert_eq!(format("<tool_call>"), None);
    assert_eq!(format("{{ tools }}"), None);
    assert_eq!(format("{{ tools }}<tool_call>"), Some(ToolFormat::Hermes));
    assert_eq!(format("{{ tools }}[TOOL_CALLS]"), Some(ToolFormat::Mistral));
    let args = "{{ tools }}[TOOL_CALLS]{{ name }}[ARGS]";
    assert_eq!(format(args), Some(ToolFormat::MistralArgs));
    assert_eq!(format("{{ tools }}[TOOL_CALLS]{{ name }}[CALL_ID]{{ id }}[ARGS]"), None);
    let llama = "{{ tools }}{\"name\": function name, \"parameters\": x}";
    assert_eq!(format(llama), Some(ToolFormat::Llama));
}

#[test]
fn variables_come_before_what_is_built_in() {
    let template =
        ChatTemplate::parse("{{ bos_token }}{{ tools }}{{ strftime_now('%Y') }}").unwrap();
    let variables: Map<String, Value> =
        [("bos_token".to_owned(), json!("B")), ("tools".to_owned(), json!([]))]
            .into_iter()
            .collect();
    let rendered = template.render(&TemplateInput {
        variables: Some(&variables),
        bos_token: Some("A"),
        ..TemplateInput::default()
    });
    assert_eq!(rendered.unwrap(), "B[]2024");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_template_panic(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "{{", "}}", "{%", "%}", "{#", "#}", " ", "if ", "for x in ", "set x = ", "x", "[",
                "messages", "]", "(", ")", "'a'", "1", "-1", ".", "|", "join", "~", "+", "*", ":",
                ",", "endif", "endfor", "else", "is ", "not ", "raw", "endraw", "macro m", "loop",
                "\n", "-", "%", "é", "in ", "tojson", "\"",
            ]),
            0..24,
        ),
    ) {
        let source = parts.concat();
        if let Ok(template) = ChatTemplate::parse(&source) {
            let rendered = template.render(&TemplateInput::default());
            proptest::prop_assert_ne!(rendered, Err(TemplateError::Engine));
        }
    }
}

#[test]
fn long_conversations_stay_within_the_limits() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let folder = data.join("tokenizers/ggerganov+llama.cpp/models/templates");
    let record: Value = serde_json::from_str(RENDERED).unwrap();
    let many: Vec<Value> = (0..3000)
        .map(|turn| {
            let role = if turn % 2 == 0 { "user" } else { "assistant" };
            json!({"role": role, "content": "word ".repeat(300)})
        })
        .collect();
    let one = [json!({"role": "user", "content": "word ".repeat(1 << 20)})];
    let parameters = json!({"type": "object", "properties": {}});
    let function = json!({"name": "f", "description": "d", "parameters": parameters});
    let tools = [json!({"type": "function", "function": function})];
    for file in record["rendered"].as_object().unwrap().keys() {
        let template = ChatTemplate::parse(&support::read_text(folder.join(file))).unwrap();
        for messages in [&many[..], &one] {
            let rendered = template.render(&TemplateInput {
                messages,
                tools: &tools,
                bos_token: Some("<s>"),
                eos_token: Some("</s>"),
                ..TemplateInput::default()
            });
            let limited = matches!(rendered, Err(TemplateError::Limit { .. }));
            assert!(!limited, "{file}: {} messages: {rendered:?}", messages.len());
        }
    }
}
