//! `shoal serve --from`: layers of a node, cut short in every way, and taken up again.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use shoal_base::{Digest, PackageId};
use shoal_node::{Node, NodeConfig, NodeId};
use shoal_store::Store;
use shoal_testkit::{TinyModel, gguf_file, tiny_architecture};

use crate::support::Home;

const KEY: [u8; 32] = [44; 32];

/// A data folder with a package whose layers have several leaves.
fn full() -> (Home, PackageId) {
    let home = Home::new();
    let mut architecture = tiny_architecture();
    (architecture.model_width, architecture.mlp_width) = (256, 3072);
    let path = home.write("it.gguf", &gguf_file(&TinyModel::new(architecture, 1)));
    home.run(&["model", "import", path.to_str().unwrap(), "--name", "it"]).succeeded();
    let id = Store::open(&home.data("")).unwrap().find("it").unwrap();
    (home, id)
}

/// A node with that folder, which one with [`KEY`] may use.
fn source(home: &Home, upload: Option<u64>) -> Node {
    let listen = "127.0.0.1:0".parse().unwrap();
    let reader = Node::start(NodeConfig::new(KEY, listen)).unwrap().address().node;
    let store = Some(Store::open(&home.data("")).unwrap());
    let config = NodeConfig::new([45; 32], listen);
    let heads: Vec<NodeId> = vec![reader];
    Node::start(NodeConfig { heads, store, upload_bytes_per_s: upload, ..config }).unwrap()
}

fn serve(home: &Home, id: PackageId, from: &Node) -> (Child, impl Iterator<Item = Value>) {
    let key = home.write("key", Digest(KEY).to_string().as_bytes());
    let (id, from, head) = (id.to_string(), from.address().to_string(), "ab".repeat(32));
    let args = ["serve", "-m", &id, "--from", &from, "--head", &head, "--layers", "1-1"];
    let more = ["--key", key.to_str().unwrap(), "--json", "--threads", "1"];
    let mut command = home.command(&[&args[..], &more, &["--until-stdin-ends"]].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()))
}

#[test]
fn layers_are_fetched_and_what_arrived_survives_every_end() {
    let (full, id) = full();
    let home = Home::new();
    // Slow enough to be cut: two leaves per second.
    let slow = source(&full, Some(2 << 20));
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let (mut child, lines) = serve(&home, id, &slow);
        let mut bytes = 0;
        for line in lines {
            bytes = line["bytes"].as_u64().unwrap_or(0);
            let is_enough = line["event"] == "progress" && bytes > 0;
            if is_enough {
                let process = child.id().to_string();
                assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
            }
        }
        assert_eq!(child.wait().unwrap().code(), code, "{signal}");
        assert!(bytes > 0, "{signal}");
    }
    drop(slow);
    let fast = source(&full, None);
    let (mut child, mut lines) = serve(&home, id, &fast);
    let first = lines.next().unwrap();
    assert_eq!((&first["event"], &first["package"]), (&"fetching".into(), &id.to_string().into()));
    let served = lines.find(|line| line["layers"].is_array()).expect("it serves");
    assert!(served["node"].as_str().unwrap().contains("@127.0.0.1:"), "{served}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());

    let id = id.to_string();
    let shown = home.run(&["model", "show", &id, "--json"]).succeeded().json();
    assert_eq!(shown["partial"], true);
    assert_eq!(shown["absent"], serde_json::json!(["embedding", "layer-0", "head", "tokenizer"]));
    let shown = home.run(&["model", "show", &id]).succeeded().stdout;
    assert!(shown.contains("here: tables, layer 1"), "{shown}");
    let listed = home.run(&["model", "list"]).succeeded().stdout;
    assert!(listed.contains("here: tables, layer 1"), "{listed}");
    home.run(&["model", "verify", &id]).succeeded();
    home.run(&["run", "-m", &id, "hello"]).failed(4, "is missing");
    home.run(&["doctor"]).succeeded();
}

#[test]
fn a_source_that_is_not_there_and_a_name_nobody_knows_are_refused() {
    let home = Home::new();
    let head = "ab".repeat(32);
    let nobody = format!("{}@127.0.0.1:9", "00".repeat(31) + "07");
    let args = ["serve", "-m", "unknown", "--from", &nobody, "--head", &head];
    home.run(&args).failed(2, "needs the whole id");
    let key = home.write("key", b"short");
    let args = [&args[..], &["--key", key.to_str().unwrap()]].concat();
    home.run(&args).failed(4, "64 hex digits");
}
