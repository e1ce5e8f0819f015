//! Files mapped into memory.
//!
//! A map is sound as long as nobody shortens or rewrites its file. Files of the store are written
//! once, under a name nobody else knows, made read-only, and then only renamed or unlinked, never
//! opened for writing again; the folder is open to its user alone. A file that lost its end before
//! it was opened has another length than the manifest says and is refused. What remains is a
//! process of the same user that overrides the read-only mode of a file while it is in use, and a
//! disk that fails: both end this process with a signal, as they would end any program that pages
//! its own code from there.

use std::fs::File;
use std::io;

use memmap2::Mmap;
use shoal_base::SharedBytes;

/// Maps a file of the store. The bytes begin at a page, so also at a multiple of 64.
pub(crate) fn map(file: &File) -> io::Result<SharedBytes> {
    if file.metadata()?.len() == 0 {
        return Ok(SharedBytes::aligned(&[]));
    }
    // SAFETY: files of the store keep length and content while they are open; see above.
    let map = unsafe { Mmap::map(file) }?;
    Ok(SharedBytes::new(map))
}
