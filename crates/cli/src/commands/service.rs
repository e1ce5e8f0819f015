//! `shoal service`: `shoal up` as a service of the user, kept by systemd.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, ExitCode, Output};

use clap::Subcommand;
use serde_json::json;

use crate::failure::{Code, Failure, at_path};
use crate::session::Session;
use crate::{output, program, whole_file};

/// The name systemd knows it by.
const UNIT: &str = "shoal.service";
/// Longer than open answers may take to end.
const STOP_S: u32 = 90;

/// What becomes of the service.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start `shoal up` now and whenever you log in
    Install(InstallArgs),
    /// Stop it and forget it
    Uninstall,
    /// Say whether it is installed and runs
    Status,
}

/// Arguments of `shoal service install`.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// Print the unit instead of installing it
    #[arg(long)]
    print: bool,

    /// Arguments of `shoal up`, such as `--model MODEL`
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs a command.
pub(crate) fn run(session: &Session, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Install(args) => install(session, args),
        Command::Uninstall => uninstall(session),
        Command::Status => status(session),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn install(session: &Session, args: &InstallArgs) -> Result<(), Failure> {
    // What `up` would refuse is refused now and not in a log.
    program::check_up(&args.arguments)?;
    let here = std::env::current_dir().map_err(|error| at_path(Path::new("."), &error))?;
    let program = std::env::current_exe().map_err(|error| at_path(Path::new("shoal"), &error))?;
    let unit = unit(&program, &args.arguments, &here, &session.home)?;
    if args.print {
        return output::text(&unit);
    }
    let path = path()?;
    let folder = path.parent().expect("the unit is in a folder");
    std::fs::create_dir_all(folder).map_err(|error| at_path(folder, &error))?;
    whole_file::replace_whole(&path, unit.as_bytes())?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", UNIT])?;
    systemctl(&["restart", UNIT])?;
    match session.json {
        true => output::json(&json!({ "unit": path })),
        false => output::text(&format!(
            "{} is installed and started\njournalctl --user -u shoal shows what it says\n",
            path.display()
        )),
    }
}

fn uninstall(session: &Session) -> Result<(), Failure> {
    let path = path()?;
    let was_installed = path.exists();
    if was_installed {
        systemctl(&["disable", "--now", UNIT])?;
        std::fs::remove_file(&path).map_err(|error| at_path(&path, &error))?;
        systemctl(&["daemon-reload"])?;
    }
    match (session.json, was_installed) {
        (true, _) => output::json(&json!({ "unit": path, "was_installed": was_installed })),
        (false, true) => output::text(&format!("{} is gone\n", path.display())),
        (false, false) => output::text("it is not installed\n"),
    }
}

fn status(session: &Session) -> Result<(), Failure> {
    let path = path()?;
    let is_installed = path.exists();
    let word = |question: &str| -> Result<String, Failure> {
        let said = ask(&[question, UNIT])?;
        Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    };
    let (active, enabled) = match is_installed {
        true => (word("is-active")?, word("is-enabled")?),
        false => ("inactive".to_owned(), "not-found".to_owned()),
    };
    match session.json {
        true => output::json(&json!({
            "unit": path, "installed": is_installed, "active": active, "enabled": enabled,
        })),
        false if is_installed => {
            output::text(&format!("{}: {active}, {enabled}\n", path.display()))
        }
        false => output::text("it is not installed\n"),
    }
}

/// Where systemd looks for units of this user.
fn path() -> Result<PathBuf, Failure> {
    let variable = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let config =
        variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    let config = config.ok_or_else(|| Failure::usage("neither XDG_CONFIG_HOME nor HOME is set"))?;
    Ok(config.join("systemd/user").join(UNIT))
}

fn unit(program: &Path, args: &[String], here: &Path, home: &Path) -> Result<String, Failure> {
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| Failure::usage(format!("{}: not UTF-8", path.display())))
    };
    let mut command = command_word(&text(program)?)?;
    command += " up";
    for argument in args {
        let _ = write!(command, " {}", command_word(argument)?);
    }
    let here = path_word(&text(here)?)?;
    let home = word(&format!("SHOAL_HOME={}", text(home)?))?;
    Ok(format!(
        "[Unit]\nDescription=shoal: models behind an HTTP API\n\n\
         [Service]\nExecStart={command}\nWorkingDirectory={here}\nEnvironment={home}\n\
         Restart=on-failure\nRestartSec=2\nTimeoutStopSec={STOP_S}\nUMask=0077\n\
         NoNewPrivileges=yes\n\n[Install]\nWantedBy=default.target\n"
    ))
}

/// A word of a unit, in quotes. `%` means something there.
fn word(text: &str) -> Result<String, Failure> {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    Ok(format!("\"{}\"", path_word(&escaped)?))
}

/// A word of a command, in which `$` means something too.
fn command_word(text: &str) -> Result<String, Failure> {
    Ok(word(text)?.replace('$', "$$"))
}

/// A path that takes the rest of its line.
fn path_word(text: &str) -> Result<String, Failure> {
    match text.chars().any(char::is_control) {
        true => Err(Failure::usage(format!("{text:?} has characters that a unit cannot have"))),
        false => Ok(text.replace('%', "%%")),
    }
}

fn ask(args: &[&str]) -> Result<Output, Failure> {
    let output = Program::new("systemctl").arg("--user").args(args).output();
    output.map_err(|error| {
        let message = format!("systemctl: {error}; services need systemd, `shoal up` does not");
        Failure::new(Code::Failed, message)
    })
}

fn systemctl(args: &[&str]) -> Result<(), Failure> {
    let output = ask(args)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = format!("systemctl --user {}: {}", args.join(" "), said.trim());
    Err(Failure::new(Code::Failed, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_themselves() {
        assert_eq!(command_word("a b\"$x%\\").unwrap(), "\"a b\\\"$$x%%\\\\\"");
        assert!(command_word("a\nExecStart=/bin/sh").is_err());
        let args = ["-m".to_owned(), "my model".to_owned()];
        let [program, here, home] = ["/bin/shoal", "/tmp/100%", "/srv/me"].map(Path::new);
        let unit = unit(program, &args, here, home).unwrap();
        for line in [
            "ExecStart=\"/bin/shoal\" up \"-m\" \"my model\"",
            "WorkingDirectory=/tmp/100%%",
            "Environment=\"SHOAL_HOME=/srv/me\"",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}\n{unit}");
        }
    }
}
