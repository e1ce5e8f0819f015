//! Fetches what a guest is made of: a kernel, a boot loader and a shell, as Debian packages.
//!
//! They are unpacked below `target/` and never installed. The tools that must be installed are
//! named in the errors.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, AtPath, TaskError};

/// A meta package that depends on the current kernel for virtual machines. Its kernel is
/// compressed with LZ4 and has few drivers, so it starts quickly under emulation.
const KERNEL_META: &str = "linux-image-cloud-amd64";
const PACKAGES: [&str; 3] = ["busybox-static", "isolinux", "syslinux-common"];
const NEEDS_DEBIAN: &str = "emulation needs the package tools of Debian";

/// Files of the guest.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) kernel: PathBuf,
    pub(super) busybox: PathBuf,
    pub(super) loader: PathBuf,
    pub(super) loader_module: PathBuf,
}

/// Downloads and unpacks on the first call; later calls find everything in `folder`.
pub(super) fn fetch(folder: &Path) -> Result<Parts, TaskError> {
    let unpacked = folder.join("parts");
    if !unpacked.exists() {
        // Unpacked beside and renamed, so that an interrupted download is not taken for whole.
        let fresh = folder.join(format!("parts-{}", std::process::id()));
        std::fs::create_dir_all(&fresh).at(&fresh)?;
        download(&fresh)?;
        std::fs::rename(&fresh, &unpacked).at(&unpacked)?;
    }
    Ok(Parts {
        kernel: kernel_in(&unpacked.join("boot"))?,
        busybox: unpacked.join("bin/busybox"),
        loader: unpacked.join("usr/lib/ISOLINUX/isolinux.bin"),
        loader_module: unpacked.join("usr/lib/syslinux/modules/bios/ldlinux.c32"),
    })
}

fn download(folder: &Path) -> Result<(), TaskError> {
    let mut depends = Command::new("apt-cache");
    let output = shell::quiet(depends.args(["depends", KERNEL_META]), NEEDS_DEBIAN)?;
    let kernel = kernel_package(&String::from_utf8_lossy(&output.stdout))?;
    let mut get = Command::new("apt-get");
    get.current_dir(folder).arg("download").arg(kernel).args(PACKAGES);
    shell::quiet(&mut get, NEEDS_DEBIAN)?;
    for entry in std::fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = Command::new("dpkg");
            shell::quiet(unpack.arg("-x").arg(&path).arg(folder), NEEDS_DEBIAN)?;
            std::fs::remove_file(&path).at(&path)?;
        }
    }
    Ok(())
}

/// The package that `apt-cache depends` names for the meta package.
fn kernel_package(depends: &str) -> Result<String, TaskError> {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .ok_or_else(|| TaskError::Refused(format!("{KERNEL_META} names no kernel; apt-get update")))
}

fn kernel_in(boot: &Path) -> Result<PathBuf, TaskError> {
    for entry in std::fs::read_dir(boot).at(boot)? {
        let entry = entry.at(boot)?;
        if entry.file_name().to_string_lossy().starts_with("vmlinuz-") {
            return Ok(entry.path());
        }
    }
    Err(TaskError::Refused(format!("no kernel in {}", boot.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_is_the_first_image_the_meta_package_depends_on() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        let name = kernel_package(text).map_err(|error| error.to_string());
        assert_eq!(name.as_deref(), Ok("linux-image-6.1.0-56-cloud-amd64"));
        assert!(kernel_package("linux-image-cloud-amd64\n").is_err());
    }
}
