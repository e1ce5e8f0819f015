//! `shoal service`, with a `systemctl` that writes down what it is asked.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Ended, Home};

const SYSTEMCTL: &str = "#!/bin/sh\necho \"$@\" >> \"$SYSTEMCTL_LOG\"\n\
    case \"$2\" in is-active) echo active;; is-enabled) echo enabled;; \
    restart) exit \"${SYSTEMCTL_FAILS:-0}\";; esac\n";

fn service(home: &Home, args: &[&str], fails: &str) -> Ended {
    let folder = home.file("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("systemctl");
    std::fs::write(&program, SYSTEMCTL).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = home.command(&[&["service"], args].concat());
    command.env("PATH", path).env("XDG_CONFIG_HOME", home.file("config"));
    command.env("SYSTEMCTL_LOG", home.file("log")).env("SYSTEMCTL_FAILS", fails);
    Ended::of(command.output().unwrap())
}

#[test]
fn a_service_comes_and_goes() {
    let home = Home::new();
    let unit = home.file("config/systemd/user/shoal.service");
    let status = |home: &Home| service(home, &["status", "--json"], "0").succeeded().json();
    assert_eq!(status(&home)["installed"], false);
    service(&home, &["install", "--model", "a model"], "0").succeeded();
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains(" up \"--model\" \"a model\"\n"), "{text}");
    assert_eq!(status(&home)["active"], "active");
    service(&home, &["uninstall"], "0").succeeded();
    assert!(!unit.exists());
    let log = std::fs::read_to_string(home.file("log")).unwrap();
    for line in [
        "--user daemon-reload",
        "--user enable shoal.service",
        "--user restart shoal.service",
        "--user disable --now shoal.service",
    ] {
        assert!(log.lines().any(|found| found == line), "{line}\n{log}");
    }
    service(&home, &["uninstall"], "0").succeeded();
}

#[test]
fn a_service_that_cannot_be_is_refused() {
    let home = Home::new();
    service(&home, &["install", "--no-such-option"], "0").failed(2, "--no-such-option");
    assert!(!home.file("log").exists());
    service(&home, &["install", "--model", "m"], "1").failed(1, "systemctl --user restart");
    let print = service(&home, &["install", "--print", "--model", "m"], "0").succeeded();
    assert!(print.stdout.starts_with("[Unit]"), "{print:?}");
}
