//! What is asked with GET.

use serde_json::{Value, json};

use crate::support::{Mock, Server};

#[test]
fn models_are_listed_with_what_they_can() {
    let server = Server::start(Mock::default());
    let list = server.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert_eq!((&model["id"], &model["object"]), (&json!("mock"), &json!("model")));
    assert_eq!(model["max_model_len"], 1000);
    assert_eq!(server.get("/v1/models/mock").json(), *model);
    server.get("/v1/models/other").refused(404, "model_not_found");
}

#[test]
fn health_says_alive_ready_and_answering() {
    let server = Server::start(Mock::default());
    assert_eq!(server.get("/health").json(), json!({ "status": "ok" }));
    assert_eq!(server.get("/health/ready").json(), json!({ "status": "ready" }));
    assert_eq!(server.get("/health/generate").json(), json!({ "status": "ok" }));
    assert_eq!(server.mock.requests.lock().unwrap().len(), 1);
    assert!(server.get("/version").json()["version"].is_string());
    assert_eq!(server.get("/swarm").json(), json!({ "swarm": null }), "this process alone");
}

#[test]
fn metrics_have_the_names_dashboards_know() {
    let server = Server::start(Mock::default());
    assert_eq!(server.post("/v1/completions", &json!({ "prompt": "x" })).status, 200);
    let text = server.get("/metrics").text;
    let model = "{model_name=\"mock\"}";
    for line in [
        format!("vllm:num_requests_running{model} 1"),
        format!("vllm:num_requests_waiting{model} 2"),
        format!("vllm:kv_cache_usage_perc{model} 0.5"),
        format!("vllm:prefix_cache_queries_total{model} 9"),
        format!("vllm:prefix_cache_hits_total{model} 4"),
        format!("vllm:prompt_tokens_total{model} 5"),
        format!("vllm:generation_tokens_total{model} 3"),
        "vllm:request_success_total{model_name=\"mock\",finished_reason=\"stop\"} 1".to_owned(),
        format!("vllm:time_to_first_token_seconds_count{model} 1"),
        format!("vllm:inter_token_latency_seconds_count{model} 2"),
        format!("vllm:e2e_request_latency_seconds_count{model} 1"),
        format!("shoal_generated_tokens_total{model} 3"),
        format!("shoal_requests_open{model} 0"),
        "shoal_http_responses_total{path=\"/v1/completions\",status=\"200\"} 1".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let server = Server::start(Mock::default());
    assert_eq!(server.post("/v1/completions", &json!({ "prompt": "x" })).status, 200);
    let metrics = server.get("/metrics").text;
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../../docs/grafana/shoal.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut expressions: Vec<&str> =
        targets.map(|target| target["expr"].as_str().unwrap()).collect();
    expressions.push(dashboard["templating"]["list"][1]["query"]["query"].as_str().unwrap());
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut seen = 0;
    for name in expressions.iter().flat_map(|text| text.split(|c| !is_word(c))) {
        if name.starts_with("shoal_") || name.starts_with("vllm:") {
            seen += 1;
            let is_there = metrics.lines().any(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            assert!(is_there, "{name}\n{metrics}");
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn the_console_runs_nothing_but_its_own_script() {
    let server = Server::start(Mock::default());
    let page = server.get("/");
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for asset in ["/console.css", "/console.js", "/icon.svg"] {
        assert!(page.text.contains(asset), "{asset}");
        let said = server.get(asset);
        assert_eq!(said.status, 200);
        assert!(!said.text.replace("http://www.w3.org/2000/svg", "").contains("http"), "{asset}");
    }
    for forbidden in ["<script>", "style=", "onclick", "http:", "https:"] {
        assert!(!page.text.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn the_description_names_every_parameter() {
    let server = Server::start(Mock::default());
    let document: Value = server.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let body = &document["paths"]["/v1/chat/completions"]["post"]["requestBody"];
    let schema = &body["content"]["application/json"]["schema"];
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["store"], json!({ "enum": [false, null] }));
    assert!(schema["properties"]["temperature"].is_object());
}
