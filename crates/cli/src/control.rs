//! How commands talk to the node that runs in the same data folder: one line of JSON each way over
//! a socket that only this user can reach.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shoal_store::NodeFolder;

use crate::failure::{Code, Failure, at_path};

/// Longest request; answers list members.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long the other side may take to write or read a line.
const LINE_FOR: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_FOR: Duration = Duration::from_secs(30);

/// What a command asks of the running node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// What it sees.
    Swarm {},
    /// A ticket.
    Invite { role: String, packages: Vec<String>, seconds: u64 },
    /// Nobody is to have anything to do with this node any more.
    Revoke { node: String },
    /// Plans for a package.
    Plan { package: String },
    /// Leave in order and end.
    Leave {},
}

/// The socket of a running node. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Answers commands from now on, one at a time.
    pub(crate) fn start(
        path: PathBuf,
        answer: impl Fn(Request) -> Result<Value, Failure> + Send + 'static,
    ) -> Result<Self, Failure> {
        // Whoever holds the node's folder is alone here: a socket that is there is nobody's.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(at_path(&path, &error));
            }
            _ => {}
        }
        let refuse = |error: &std::io::Error| at_path(&path, error);
        let listener = UnixListener::bind(&path).map_err(|error| refuse(&error))?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).map_err(|error| refuse(&error))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::Builder::new().name("shoal-control".to_owned());
        let thread = thread.spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                // Somebody who does not finish a line gets no answer.
                let _ = stream.and_then(|stream| serve(&stream, &answer));
            }
        });
        let thread = thread.map_err(|error| refuse(&error))?;
        Ok(Self { path, is_over, thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // It wakes the thread, which then ends.
        let woken = UnixStream::connect(&self.path).is_ok();
        let _ = std::fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: &UnixStream,
    answer: &impl Fn(Request) -> Result<Value, Failure>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(LINE_FOR))?;
    stream.set_write_timeout(Some(LINE_FOR))?;
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST_BYTES_MAX)).read_line(&mut line)?;
    let asked = serde_json::from_str(&line);
    let asked = asked.map_err(|error| Failure::usage(format!("not a request: {error}")));
    let said = match asked.and_then(answer) {
        Ok(value) => json!({ "ok": value }),
        Err(failure) => failure.to_json(),
    };
    let mut stream = stream;
    writeln!(stream, "{said}")
}

/// Asks the node that runs in the data folder `home`.
pub(crate) fn ask(home: &Path, request: &Request) -> Result<Value, Failure> {
    let path = NodeFolder::control_of(home);
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if is_absent(&error) => return Err(not_running(home)),
        Err(error) => return Err(at_path(&path, &error)),
    };
    let line = exchange(&stream, request).map_err(|error| at_path(&path, &error))?;
    let broken = || Failure::new(Code::Failed, "the running node did not answer; is it stuck?");
    let said: Value = serde_json::from_str(&line).map_err(|_| broken())?;
    if let Some(value) = said.get("ok") {
        return Ok(value.clone());
    }
    let error = &said["error"];
    let code = error["code"].as_str().and_then(Code::of_str).ok_or_else(broken)?;
    Err(Failure::new(code, error["message"].as_str().ok_or_else(broken)?))
}

/// Whether a node runs in the data folder.
pub(crate) fn is_running(home: &Path) -> bool {
    UnixStream::connect(NodeFolder::control_of(home)).is_ok()
}

fn exchange(stream: &UnixStream, request: &Request) -> std::io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_FOR))?;
    stream.set_write_timeout(Some(LINE_FOR))?;
    let text = serde_json::to_string(request).expect("requests are plain JSON");
    let mut writer = stream;
    writeln!(writer, "{text}")?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line)?;
    Ok(line)
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

fn not_running(home: &Path) -> Failure {
    let message = match NodeFolder::is_member(home) {
        true => "no node of this data folder runs; start `shoal up` or `shoal serve`",
        false => {
            "this data folder is in no swarm; `shoal swarm create` makes one, `shoal swarm join` \
             joins one"
        }
    };
    Failure::new(Code::NotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_and_nonsense_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("node")).unwrap();
        let absent = ask(home.path(), &Request::Swarm {}).unwrap_err();
        assert_eq!(absent.code, Code::NotFound);
        let path = NodeFolder::control_of(home.path());
        let control = Control::start(path.clone(), |request| match request {
            Request::Swarm {} => Ok(json!({ "a": 1 })),
            _ => Err(Failure::new(Code::NoRoom, "full")),
        });
        let control = control.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(ask(home.path(), &Request::Swarm {}).unwrap(), json!({ "a": 1 }));
        let refused = ask(home.path(), &Request::Leave {}).unwrap_err();
        assert_eq!(refused, Failure::new(Code::NoRoom, "full"));
        for nonsense in ["{}\n", "{\"ask\":\"swarm\",\"x\":1}\n", "\n"] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(nonsense.as_bytes()).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert!(said.contains("not a request"), "{said}");
        }
        assert!(is_running(home.path()));
        drop(control);
        assert!(!is_running(home.path()) && !path.exists());
    }
}
