//! Random access to the bytes of a model file. Every read is checked against the size of the file
//! before anything is allocated, and every failure names the file and the byte.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SourceError;

/// Bytes that can be read at any offset, from several threads.
pub trait ReadAt: Send + Sync {
    /// Number of bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// What the operating system says; `UnexpectedEof` when the bytes end before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

#[cfg(unix)]
impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buf.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        self.as_slice().size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buf, offset)
    }
}

/// One file of a model: its name for messages, its bytes, its size when it was opened.
#[derive(Clone)]
pub struct Input {
    file: Arc<Path>,
    reader: Arc<dyn ReadAt>,
    size: u64,
}

impl Input {
    /// Opens a regular file.
    ///
    /// # Errors
    /// [`SourceError::Io`], also when it is a pipe, a device or a folder.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let open = || {
            // Opening a pipe would block until somebody writes to it.
            if !std::fs::metadata(path)?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            File::open(path)
        };
        let file = open().map_err(|source| SourceError::Io { file: path.to_owned(), source })?;
        Self::from_reader(path, file)
    }

    /// Reads from anything, under a name for messages.
    ///
    /// # Errors
    /// [`SourceError::Io`] when it does not know its size.
    pub fn from_reader(
        name: impl Into<PathBuf>,
        reader: impl ReadAt + 'static,
    ) -> Result<Self, SourceError> {
        let file = name.into();
        match reader.size() {
            Ok(size) => Ok(Self { file: file.into(), reader: Arc::new(reader), size }),
            Err(source) => Err(SourceError::Io { file, source }),
        }
    }

    /// Reads from memory, under a name for messages.
    #[must_use]
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Self {
        Self { file: name.into().into(), size: bytes.len() as u64, reader: Arc::new(bytes) }
    }

    /// Its name.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fails unless `len` bytes follow `offset`.
    pub(super) fn check_range(&self, offset: u64, len: u64) -> Result<(), SourceError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(SourceError::Truncated {
                file: self.file.to_path_buf(),
                offset,
                needed: len,
                size: self.size,
            }),
        }
    }

    pub(super) fn read_into(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        self.check_range(offset, buf.len() as u64)?;
        self.reader
            .read_exact_at(buf, offset)
            .map_err(|source| SourceError::Io { file: self.file.to_path_buf(), source })
    }

    /// Reads `len` bytes; fails before allocating when the file has fewer.
    pub(super) fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, SourceError> {
        self.check_range(offset, len)?;
        let len =
            usize::try_from(len).map_err(|_| self.oversize(offset, "bytes", len, u64::MAX))?;
        let mut bytes = vec![0; len];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads the whole file unless it is larger than `limit`.
    pub(super) fn read_all(&self, limit: u64) -> Result<Vec<u8>, SourceError> {
        if self.size > limit {
            return Err(self.oversize(0, "bytes", self.size, limit));
        }
        self.read(0, self.size)
    }

    pub(super) fn malformed(&self, offset: u64, rule: &'static str) -> SourceError {
        SourceError::Malformed { file: self.file.to_path_buf(), offset, rule }
    }

    pub(super) fn oversize(
        &self,
        offset: u64,
        what: &'static str,
        got: u64,
        limit: u64,
    ) -> SourceError {
        SourceError::Oversize { file: self.file.to_path_buf(), offset, what, got, limit }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("file", &self.file)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Bytes a cursor holds at a time.
const WINDOW_BYTES: u64 = 32 << 10;

/// Reads the little-endian fields of a header one after another.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    input: &'a Input,
    offset: u64,
    window: Vec<u8>,
    window_offset: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(input: &'a Input, offset: u64) -> Self {
        Self { input, offset, window: Vec::new(), window_offset: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn input(&self) -> &'a Input {
        self.input
    }

    pub(super) fn skip(&mut self, len: u64) -> Result<(), SourceError> {
        self.input.check_range(self.offset, len)?;
        self.offset += len;
        Ok(())
    }

    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<(), SourceError> {
        let len = out.len() as u64;
        self.input.check_range(self.offset, len)?;
        if len > WINDOW_BYTES {
            self.input.read_into(self.offset, out)?;
        } else {
            out.copy_from_slice(self.view(out.len())?);
        }
        self.offset += len;
        Ok(())
    }

    /// The next `len` bytes, at most a window, already known to be in the file.
    fn view(&mut self, len: usize) -> Result<&[u8], SourceError> {
        let start = self.offset.checked_sub(self.window_offset);
        let held = self.window.len() as u64;
        if start.is_none_or(|start| start + len as u64 > held) {
            let size = WINDOW_BYTES.min(self.input.size() - self.offset);
            self.window = self.input.read(self.offset, size)?;
            self.window_offset = self.offset;
        }
        let start = usize::try_from(self.offset - self.window_offset)
            .expect("the window was chosen to hold the offset");
        Ok(&self.window[start..start + len])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SourceError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, SourceError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, SourceError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, SourceError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Bytes behind a 64-bit length.
    pub(super) fn bytes(&mut self, what: &'static str, limit: u64) -> Result<Vec<u8>, SourceError> {
        let start = self.offset;
        let len = self.u64()?;
        if len > limit {
            return Err(self.input.oversize(start, what, len, limit));
        }
        self.input.check_range(self.offset, len)?;
        let mut bytes = vec![0; usize::try_from(len).expect("limits fit usize")];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// UTF-8 text behind a 64-bit length.
    pub(super) fn text(&mut self, what: &'static str, limit: u64) -> Result<String, SourceError> {
        let start = self.offset;
        String::from_utf8(self.bytes(what, limit)?)
            .map_err(|_| self.input.malformed(start, "text is UTF-8"))
    }
}
