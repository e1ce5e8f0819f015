//! An HTTP server on this machine that says exactly what a test wants, lies included.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a client asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// How many requests came before this one.
    pub index: usize,
}

/// Answers until it is dropped. Each connection carries one request.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Asked {
    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// First byte of the range asked for; 0 for a whole file.
    #[must_use]
    pub fn first_byte(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        let first = range.and_then(|range| range.split('-').next()?.parse().ok());
        first.unwrap_or(0)
    }
}

impl HttpServer {
    /// Starts a server; `answer` gives all bytes of each response, after which the connection is
    /// closed.
    ///
    /// # Panics
    /// When the system has no port or thread for it.
    #[must_use]
    pub fn start(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopping) = (Arc::clone(&asked), Arc::clone(&stop));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    // A client that goes away in the middle is what some tests want.
                    let _ = serve(stream, &seen, &answer);
                }
            }
        });
        Self { address, asked, stop, accepting: Some(accepting) }
    }

    /// The URL of a path, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An honest response: the file, or the rest of it from the byte asked for.
    #[must_use]
    pub fn file(asked: &Asked, bytes: &[u8]) -> Vec<u8> {
        let first = asked.first_byte();
        let total = bytes.len();
        if first > 0 && first >= total {
            return Self::response("416 Range Not Satisfiable", &[], b"");
        }
        let body = &bytes[first..];
        let length = format!("Content-Length: {}", body.len());
        let etag = "ETag: \"one\"".to_owned();
        match first {
            0 => Self::response("200 OK", &[length, etag], body),
            _ => {
                let range = format!("Content-Range: bytes {first}-{}/{total}", total - 1);
                Self::response("206 Partial Content", &[length, etag, range], body)
            }
        }
    }

    /// Any response.
    #[must_use]
    pub fn response(status: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        [head.as_bytes(), body].concat()
    }
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked) -> Vec<u8>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut asked =
        Asked { path: line.split(' ').nth(1).unwrap_or("").to_owned(), ..Asked::default() };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        asked.index = seen.len();
        seen.push(asked.clone());
    }
    stream.write_all(&answer(&asked))
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
