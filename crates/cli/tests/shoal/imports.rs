//! `model import` of every format, and of what is no model.

use std::process::Command;

use shoal_model::source::gguf::MetadataValue;
use shoal_testkit::{
    gguf_file, gguf_file_with, llama2c_tokenizer, skip, write_hugging_face, write_llama2c,
};

use crate::support::{Home, keys, slow_to_import, tiny};

#[test]
fn gguf_files_become_packages() {
    let home = Home::new();
    let path = home.write("my model.gguf", &gguf_file(&tiny()));
    let args = ["model", "import", path.to_str().unwrap(), "--json"];
    let imported = home.run(&args).succeeded().json();
    assert_eq!(keys(&imported), ["package", "name", "path", "bytes"]);
    assert_eq!(imported["name"], "my-model");
    assert!(std::path::Path::new(imported["path"].as_str().unwrap()).is_file());
    let id = imported["package"].as_str().unwrap();

    let shown = home.run(&["model", "show", &id[..8], "--json"]).succeeded().json();
    assert_eq!(shown["names"], serde_json::json!(["my-model"]));
    assert_eq!((&shown["bytes"], &shown["package"]), (&imported["bytes"], &imported["package"]));
    assert_eq!(shown["architecture"]["layer_count"], 2);
    let text = home.run(&["model", "show", "my-model"]).succeeded().stdout;
    assert!(text.contains("2 of width 72"), "{text}");

    // The bytes do not depend on threads, and a name may have a second package.
    let again = [&args[..], &["--threads", "1", "--name", "two"]].concat();
    assert_eq!(home.run(&again).succeeded().json()["package"], id);
    let i4 = [&args[..], &["--format", "i4", "--name", "two"]].concat();
    assert_ne!(home.run(&i4).succeeded().json()["package"], id);
    let high = [&args[..], &["--fidelity", "high", "--name", "high"]].concat();
    home.run(&high).succeeded();
    let shown = home.run(&["model", "show", "high", "--json"]).succeeded().json();
    assert_eq!(keys(&shown["inputs"]), ["a12"]);
    assert_eq!(home.run(&["model", "list"]).succeeded().stdout.lines().count(), 3);
}

#[test]
fn packages_are_named_verified_and_removed() {
    let home = Home::with_tiny();
    home.run(&["model", "name", "tiny", "other"]).succeeded();
    let verified = home.run(&["model", "verify", "other", "--json"]).succeeded().json();
    assert_eq!(verified["packages"][0]["sound"], true);
    home.run(&["model", "verify", "--all"]).succeeded();
    let removed = home.run(&["model", "remove", "tiny", "--json"]).succeeded().json();
    assert_eq!(removed["names"], serde_json::json!(["other", "tiny"]));
    assert!(removed["bytes"].as_u64().unwrap() > 50_000);
    home.run(&["model", "show", "other"]).failed(3, "other");
    assert_eq!(home.names("blobs"), [""; 0]);
    home.run(&["model", "name", "nothing", "x"]).failed(3, "nothing");
    home.run(&["model", "import", "x.gguf", "--name", "a/b"]).failed(2, "no name");
}

#[test]
fn hugging_face_folders_become_packages() {
    let home = Home::new();
    let folder = home.file("a folder");
    write_hugging_face(&tiny(), &folder);
    let path = folder.to_str().unwrap();
    home.run(&["model", "import", path]).succeeded();
    let answer = home.run(&["run", "-m", "a-folder", "-n", "5", "--json", "hello"]);
    assert_eq!(answer.succeeded().json()["usage"]["prompt_tokens"], 6);
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    home.run(&["model", "import", path]).failed(4, "tokenizer.json or tokenizer.model is missing");
}

#[test]
fn llama2c_checkpoints_become_packages() {
    let home = Home::new();
    write_llama2c(&tiny(), &home.file(""));
    let path = home.file("tiny.bin");
    home.run(&["model", "import", path.to_str().unwrap()]).succeeded();
    // The same weights in another format give the same answers.
    let gguf = home.write("same.gguf", &gguf_file(&tiny()));
    home.run(&["model", "import", gguf.to_str().unwrap()]).succeeded();
    let ids = |model: &str| {
        let args = ["run", "-m", model, "-t", "0", "-n", "9", "--ignore-end", "--json", "x"];
        home.run(&args).succeeded().json()["token_ids"].clone()
    };
    assert_eq!(ids("tiny"), ids("same"));
}

#[test]
fn packages_become_gguf_files_again() {
    let home = Home::with_tiny();
    let answer = |model: &str| {
        let args = ["run", "-m", model, "-t", "0", "-n", "12", "--ignore-end", "--json", "hello"];
        home.run(&args).succeeded().json()["token_ids"].clone()
    };
    for format in ["f32", "f16"] {
        let out = home.file(&format!("{format}.gguf"));
        let args = ["model", "export", "tiny", "--format", format, "--json", "--out"];
        let args = [&args[..], &[out.to_str().unwrap()]].concat();
        let exported = home.run(&args).succeeded().json();
        let length = std::fs::metadata(&out).unwrap().len();
        assert_eq!(exported["bytes"], length);
        home.run(&args).failed(2, "--force");
        home.run(&[&args[..], &["--force"]].concat()).succeeded();
        // Weights that are 8-bit integers times a scale survive both formats well enough for the
        // first tokens to be the same.
        let (first, second) = (answer("tiny"), answer(out.to_str().unwrap()));
        assert_eq!(first[0], second[0], "{format}");
    }
    let unwritable = ["model", "export", "tiny", "--out", "/no/such/folder/x.gguf"];
    home.run(&unwritable).failed(3, "/no/such/folder");
}

#[test]
fn files_that_are_no_models_are_refused_with_file_and_rule() {
    let home = Home::new();
    let whole = gguf_file(&tiny());
    let import = |name: &str, bytes: &[u8]| {
        let path = home.write(name, bytes);
        home.run(&["model", "import", path.to_str().unwrap()])
    };
    for length in [0, 3, 10, 100, 5000, whole.len() / 2, whole.len() - 1] {
        let ended = import("cut.gguf", &whole[..length]);
        ended.failed(4, "cut.gguf");
    }
    import("text.gguf", b"hello, I am a text").failed(4, "not a model");
    import("archive.bin", b"PK\x03\x04rest").failed(4, "not a model");
    home.run(&["model", "import", "/no/such/model.gguf"]).failed(3, "/no/such/model.gguf");

    // Tensors of F32 are at the end: the last one is no number, then infinite.
    for bits in [f32::NAN, f32::INFINITY] {
        let mut bytes = whole.clone();
        let end = bytes.len() - 40;
        bytes[end - 4..end].copy_from_slice(&bits.to_le_bytes());
        import("nan.gguf", &bytes).failed(4, "is not finite");
    }
    let unknown = gguf_file_with(&tiny(), |metadata| {
        metadata[0].1 = MetadataValue::Text("falcon".to_owned());
    });
    import("falcon.gguf", &unknown).failed(4, "\"falcon\" is not supported");
    assert_eq!(home.names("packages"), [""; 0]);
    assert_eq!(home.names("staging"), [""; 0]);
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let home = Home::new();
    write_llama2c(&tiny(), &home.file(""));
    let path = home.file("tiny.bin");
    let import = |tokenizer: &str| {
        let tokenizer = home.file(tokenizer);
        let args = ["model", "import", path.to_str().unwrap(), "--tokenizer"];
        home.run(&[&args[..], &[tokenizer.to_str().unwrap()]].concat())
    };
    home.write("large.bin", &llama2c_tokenizer(261));
    import("large.bin").failed(4, "261 tokens for an embedding of 260 rows");
    home.write("padded.bin", &llama2c_tokenizer(259));
    import("padded.bin").succeeded();
    home.write("broken.bin", b"\x05\0\0\0rest");
    import("broken.bin").failed(4, "llama2.c tokenizer");
    std::fs::remove_file(home.file("tok260.bin")).unwrap();
    home.run(&["model", "import", path.to_str().unwrap()]).failed(4, "tok260.bin");
}

#[test]
fn a_full_disk_ends_an_import_and_leaves_nothing() {
    let home = Home::new();
    let disk = home.data("");
    std::fs::create_dir_all(&disk).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=1m", "shoal-test"]).arg(&disk);
    if !mount.output().is_ok_and(|output| output.status.success()) {
        return skip("mounting a small disk is not allowed");
    }
    let _unmount = Unmount(disk);
    let path = home.write("big.gguf", &gguf_file(&slow_to_import()));
    // Enough is free to begin, as far as anybody knows, and then it is not.
    let refused = home.run(&["model", "import", path.to_str().unwrap(), "--json"]);
    refused.failed(5, "no_room");
    std::fs::write(home.data("config.toml"), "").unwrap();
    let small = home.write("tiny.gguf", &gguf_file(&tiny()));
    let filler = vec![0; 800 << 10];
    std::fs::write(home.data("blobs/filler"), filler).unwrap();
    let import = ["model", "import", small.to_str().unwrap()];
    home.run(&import).failed(5, "");
    std::fs::remove_file(home.data("blobs/filler")).unwrap();
    home.run(&import).succeeded();
    home.run(&["run", "-m", "tiny", "-n", "2", "x"]).succeeded();
    assert_eq!(home.names("staging"), [""; 0]);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_package_is_carried_in_one_file() {
    let home = Home::with_tiny();
    let file = home.file("tiny.shoal");
    let path = file.to_str().unwrap();
    let export = ["model", "export", "tiny", "--format", "package", "--out", path];
    home.run(&export).succeeded();
    home.run(&export).failed(2, "--force");
    let id = home.run(&["model", "show", "tiny", "--json"]).json()["package"].clone();

    let other = Home::new();
    let import = ["model", "import", path, "--json"];
    let imported = other.run(&import).succeeded().json();
    assert_eq!((&imported["package"], &imported["name"]), (&id, &"tiny".into()));
    other.run(&["run", "-m", path, "-n", "3", "hello"]).succeeded();
    other.run(&["model", "import", path, "--format", "i4"]).failed(2, "package already");

    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let damaged = home.write("damaged.shoal", &bytes);
    let third = Home::new();
    third.run(&["model", "import", damaged.to_str().unwrap()]).failed(4, "blob tokenizer");
    let cut = home.write("cut.shoal", &bytes[..last]);
    third.run(&["model", "import", cut.to_str().unwrap()]).failed(4, "not whole");
    assert_eq!(third.names("blobs"), [""; 0]);
}
