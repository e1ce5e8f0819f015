//! Nothing of a lab stays, however it ends.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shoal_netlab::{Access, Fault, Link};
use shoal_testkit::skip;

use crate::support::lab;

const NETLAB: &str = env!("CARGO_BIN_EXE_netlab");

fn is_alive(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn state(id: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.trim_start().chars().next().unwrap()
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn processes_are_frozen_thawed_and_killed_with_all_they_started() {
    let Some(lab) = lab(&[Access::default(); 2], Link::default()) else {
        return;
    };
    let mut command = lab.node(1).command("sh");
    command.args(["-c", "sleep 60 & echo $!; wait"]).stdout(Stdio::piped());
    let mut process = lab.node(1).spawn(command).unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child: u32 = line.trim().parse().unwrap();
    lab.apply(Fault::Freeze(1));
    wait_until("both stop", || state(process.id()) == 'T' && state(child) == 'T');
    lab.apply(Fault::Thaw(1));
    wait_until("both go on", || state(process.id()) == 'S' && state(child) == 'S');
    assert_eq!(process.try_wait().unwrap(), None);
    lab.apply(Fault::Kill(1));
    assert!(!process.wait().unwrap().success());
    wait_until("the child ends too", || !is_alive(child));
}

#[test]
fn a_lab_takes_everything_with_it_even_what_left_its_group() {
    let Some(lab) = lab(&[Access::default(); 1], Link::default()) else {
        return;
    };
    let mut command = lab.node(0).command("sh");
    command.args(["-c", "setsid sleep 60 & echo $!; sleep 60"]).stdout(Stdio::piped());
    let mut process = lab.node(0).spawn(command).unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (first, second) = (process.id(), line.trim().parse::<u32>().unwrap());
    assert!(is_alive(first) && is_alive(second));
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _lab = lab;
        panic!("a test that fails");
    }));
    assert!(unwound.is_err());
    wait_until("all processes end", || !is_alive(first) && !is_alive(second));
    assert!(!process.wait().unwrap().success());
}

/// Starts `netlab` with commands that say their number and then stay.
fn run(folder: &Path) -> Child {
    let script = "cd $DIR && { setsid sleep 60 & echo $! > $NETLAB_NODE.part; \
                  mv $NETLAB_NODE.part $NETLAB_NODE; sleep 60; }";
    let mut command = Command::new(NETLAB);
    command.args(["run", "--nodes", "2", "--", "sh", "-c", script]).env("DIR", folder);
    command.stderr(Stdio::null()).spawn().unwrap()
}

fn numbers(folder: &Path) -> [u32; 2] {
    ["0", "1"].map(|node| {
        wait_until("it says its number", || folder.join(node).exists());
        std::fs::read_to_string(folder.join(node)).unwrap().trim().parse().unwrap()
    })
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_lab_that_is_interrupted_leaves_nothing_and_one_that_is_killed_is_swept() {
    if let Some(missing) = shoal_netlab::missing() {
        return skip(&missing);
    }
    for how in ["-INT", "-KILL"] {
        let folder = tempfile_folder(how);
        let mut netlab = run(&folder);
        let left = numbers(&folder);
        assert!(left.iter().all(|id| is_alive(*id)));
        signal(&netlab, how);
        assert!(!netlab.wait().unwrap().success());
        // What left its group survives a kill; the next lab of anybody ends it.
        if how == "-KILL" {
            drop(lab(&[Access::default(); 1], Link::default()));
        }
        wait_until("all processes end", || !left.iter().any(|id| is_alive(*id)));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

fn tempfile_folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("netlab{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn the_program_runs_a_command_on_every_node_and_says_how_it_went() {
    if let Some(missing) = shoal_netlab::missing() {
        return skip(&missing);
    }
    let netlab = |arguments: &[&str]| {
        Command::new(NETLAB).args(arguments).stdin(Stdio::null()).output().unwrap()
    };
    let script = "echo node $NETLAB_NODE of $NETLAB_NODES at $NETLAB_ADDRESS in $NETLAB_PROFILE; \
                  test $NETLAB_NODE != 2 || sleep 60; test $NETLAB_NODE != 1 || sleep 60";
    let faults = ["--at", "0.1=freeze:1", "--at", "0.2=kill:1", "--at", "0.3=kill:2"];
    let head = ["run", "--profile", "home", "--nodes", "3"];
    let output = netlab(&[&head[..], &faults, &["--", "sh", "-c", script]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    let expected = [
        "[0] node 0 of 3 at 192.168.0.2 in home",
        "[1] node 1 of 3 at 198.18.1.1 in home",
        "[2] node 2 of 3 at 198.18.2.1 in home",
    ];
    assert_eq!(lines, expected);
    let refused = [
        (&["run", "--nodes", "2", "--until", "2", "--", "true"][..], "no node 2"),
        (&["run", "--at", "1=kill:7", "--", "true"], "no node 7"),
        (&["run", "--nodes", "0", "--", "true"], "0 nodes"),
        (&["run", "--profile", "moon", "--", "true"], "lan, metro, eu, us, world, home"),
        (&["run", "--nat", "0=strict", "--", "true"], "port-restricted"),
    ];
    for (arguments, message) in refused {
        let output = netlab(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(message), "{said}");
    }
    assert_eq!(netlab(&["run", "--", "false"]).status.code(), Some(1));
    let slow = ["run", "--nodes", "1", "--limit-s", "0", "--", "sleep", "60"];
    assert_eq!(netlab(&slow).status.code(), Some(1));
}
