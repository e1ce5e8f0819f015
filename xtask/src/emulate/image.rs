//! The boot disc: a CD image with a boot loader, the kernel and the guest's file system.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::guest::Entry;
use super::parts::Parts;
use crate::shell::{self, AtPath, TaskError};

/// Options every guest boots with.
///
/// - `clearcpuid`: Bochs 2.7 executes fast short `rep movs` (fsrm) wrongly, so that a patched
///   kernel crashes, and describes the layouts of pku and of compacted xsave wrongly, after which
///   the kernel would switch AVX off. Programs lose nothing they use.
/// - the others leave out what costs emulated time: devices, security modules, self-tests.
const KERNEL_OPTIONS: &str = "console=ttyS0,115200 panic=-1 nokaslr mitigations=off \
     clearcpuid=fsrm,pku,xsaves,xsavec nosmp nolapic acpi=off pci=off cryptomgr.notests lsm= \
     audit=0 init_on_alloc=0 random.trust_cpu=on tsc=reliable";

const REGULAR_FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const TRAILER: &str = "TRAILER!!!";

/// Writes the image into `work` and returns its path.
pub(super) fn build(
    work: &Path,
    parts: &Parts,
    files: &[Entry],
    verbose: bool,
) -> Result<PathBuf, TaskError> {
    let tree = work.join("disc");
    let loader = tree.join("isolinux");
    std::fs::create_dir_all(&loader).at(&loader)?;
    let copy = |from: &Path, to: PathBuf| std::fs::copy(from, &to).at(from).map(drop);
    copy(&parts.kernel, tree.join("vmlinuz"))?;
    copy(&parts.loader, loader.join("isolinux.bin"))?;
    copy(&parts.loader_module, loader.join("ldlinux.c32"))?;
    let archive = tree.join("initrd.img");
    std::fs::write(&archive, cpio(files)).at(&archive)?;
    let config = loader.join("isolinux.cfg");
    std::fs::write(&config, loader_config(verbose)).at(&config)?;

    let disc = work.join("disc.iso");
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-o"]).arg(&disc);
    xorriso.args(["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"]);
    xorriso.args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]);
    shell::quiet(xorriso.arg(&tree), "apt-get install xorriso")?;
    std::fs::remove_dir_all(&tree).at(&tree)?;
    Ok(disc)
}

fn loader_config(verbose: bool) -> String {
    let level = if verbose { "loglevel=7" } else { "loglevel=1" };
    format!(
        "DEFAULT guest\nPROMPT 0\nTIMEOUT 1\nLABEL guest\n KERNEL /vmlinuz\n \
         APPEND initrd=/initrd.img {KERNEL_OPTIONS} {level}\n"
    )
}

/// The archive format of initial file systems (`newc`): a header in hex, the name, the bytes,
/// each padded to four bytes.
fn cpio(files: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (index, entry) in files.iter().enumerate() {
        let kind = if entry.bytes.is_some() { REGULAR_FILE } else { FOLDER };
        let bytes = entry.bytes.as_deref().unwrap_or_default();
        append(&mut archive, index + 1, kind | entry.mode, &entry.path, bytes);
    }
    append(&mut archive, 0, 0, TRAILER, &[]);
    archive
}

fn append(archive: &mut Vec<u8>, inode: usize, mode: u32, name: &str, bytes: &[u8]) {
    let links = 1;
    let name_bytes = name.len() + 1;
    // Magic, inode, mode, owner, group, links, time, size, four device numbers, name size, check.
    let header = format!(
        "070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}\
         {name_bytes:08x}{:08x}",
        0,
        0,
        0,
        bytes.len(),
        0,
        0,
        0,
        0,
        0
    );
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(bytes);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    let length = archive.len().next_multiple_of(4);
    archive.resize(length, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_has_the_layout_of_newc() {
        let files = [Entry { path: "ab".to_owned(), mode: 0o755, bytes: Some(b"hello".to_vec()) }];
        let archive = cpio(&files);
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(&archive[14..22], b"000081ed", "regular file, rwxr-xr-x");
        assert_eq!(&archive[54..62], b"00000005", "size");
        assert_eq!(&archive[94..102], b"00000003", "name size");
        assert_eq!(&archive[110..113], b"ab\0");
        assert_eq!(&archive[116..121], b"hello");
        assert_eq!(&archive[124..130], b"070701");
        assert!(archive.ends_with(b"TRAILER!!!\0\0\0\0"));
        assert_eq!(archive.len() % 4, 0);
    }
}
