//! A data folder of its own for each test, and the program in it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use shoal_model::Architecture;
use shoal_testkit::{TinyModel, gguf_file, tiny_architecture};

/// A folder with a data folder in it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A file beside the data folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of the data folder.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("home").join(name)
    }

    /// The program with this data folder.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
        command.args(args).env("SHOAL_HOME", self.data("")).stdin(Stdio::null());
        for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            command.env_remove(variable);
        }
        command
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Ended {
        Ended::of(self.command(args).output().unwrap())
    }

    /// Runs with bytes on standard input.
    pub(crate) fn run_with_input<A: AsRef<OsStr>>(&self, args: &[A], input: &[u8]) -> Ended {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A program that refuses its input early does not read all of it.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let ended = Ended::of(child.wait_with_output().unwrap());
        writer.join().unwrap();
        ended
    }

    /// Writes a file of a tiny model and imports it as `tiny`.
    pub(crate) fn with_tiny() -> Self {
        let home = Self::new();
        home.import_tiny();
        home
    }

    pub(crate) fn import_tiny(&self) {
        let path = self.write("tiny.gguf", &gguf_file(&tiny()));
        self.run(&["model", "import", path.to_str().unwrap()]).succeeded();
    }

    /// Writes a file beside the data folder.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Files of a folder of the data folder.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        names(&self.data(folder))
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Ended with this code and a message with this text.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, message: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(message), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) fn tiny() -> TinyModel {
    TinyModel::new(tiny_architecture(), 1)
}

/// A model whose import takes long enough to be disturbed.
pub(crate) fn slow_to_import() -> TinyModel {
    let architecture = Architecture {
        model_width: 360,
        head_count: 20,
        kv_head_count: 20,
        mlp_width: 900,
        layer_count: 2,
        ..tiny_architecture()
    };
    TinyModel::new(architecture, 1)
}

pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
