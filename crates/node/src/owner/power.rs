//! What feeds this machine, as Linux tells it in one folder per supply.

use std::path::Path;

/// Where Linux lists what feeds a machine.
pub const POWER_SUPPLIES: &str = "/sys/class/power_supply";

/// What feeds a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// A socket.
    Mains,
    /// A battery.
    Battery,
    /// The system does not say; counts as mains.
    Unknown,
}

/// What feeds this machine, from a folder such as [`POWER_SUPPLIES`].
#[must_use]
pub fn power(supplies: &Path) -> Power {
    let Ok(entries) = std::fs::read_dir(supplies) else {
        return Power::Unknown;
    };
    let (mut is_plugged, mut is_unplugged) = (false, false);
    let (mut is_draining, mut has_battery) = (false, false);
    for entry in entries.flatten() {
        let word = |name: &str| {
            let text = std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        // Batteries of mice and keyboards are no supply of this machine.
        if word("scope") == "Device" {
            continue;
        }
        match word("type").as_str() {
            "Battery" | "UPS" => {
                has_battery = true;
                is_draining |= word("status") == "Discharging";
            }
            // Each port of USB is listed, whether something is plugged in there or not.
            kind => match word("online").as_str() {
                "" => {}
                "0" => is_unplugged |= kind == "Mains",
                _ => is_plugged = true,
            },
        }
    }
    if is_plugged {
        Power::Mains
    } else if is_draining || (is_unplugged && has_battery) {
        Power::Battery
    } else if has_battery {
        Power::Mains
    } else {
        Power::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(supplies: &[&[(&str, &str)]]) -> Power {
        let folder = tempfile::tempdir().unwrap();
        for (index, files) in supplies.iter().enumerate() {
            let supply = folder.path().join(index.to_string());
            std::fs::create_dir(&supply).unwrap();
            for (name, text) in *files {
                std::fs::write(supply.join(name), format!("{text}\n")).unwrap();
            }
        }
        power(folder.path())
    }

    #[test]
    fn a_socket_counts_before_a_battery_and_nothing_as_unknown() {
        let plugged: &[_] = &[("type", "Mains"), ("online", "1")];
        let unplugged: &[_] = &[("type", "Mains"), ("online", "0")];
        let draining: &[_] = &[("type", "Battery"), ("status", "Discharging")];
        let full: &[_] = &[("type", "Battery"), ("status", "Full")];
        let vague: &[_] = &[("type", "Battery"), ("status", "Unknown")];
        let usb: &[_] = &[("type", "USB"), ("online", "1")];
        let idle_usb: &[_] = &[("type", "USB"), ("online", "0")];
        let ups: &[_] = &[("type", "UPS"), ("status", "Discharging")];
        let mouse: &[_] = &[("type", "Battery"), ("status", "Discharging"), ("scope", "Device")];
        for (supplies, expected) in [
            (&[plugged, draining][..], Power::Mains),
            (&[unplugged, draining], Power::Battery),
            (&[unplugged, vague], Power::Battery),
            (&[idle_usb, usb, draining], Power::Mains),
            (&[idle_usb, full], Power::Mains),
            (&[draining], Power::Battery),
            (&[full], Power::Mains),
            (&[ups], Power::Battery),
            (&[plugged], Power::Mains),
            (&[mouse], Power::Unknown),
            (&[&[]], Power::Unknown),
            (&[], Power::Unknown),
        ] {
            assert_eq!(seen(supplies), expected, "{supplies:?}");
        }
        assert_eq!(power(Path::new("/nonexistent")), Power::Unknown);
    }
}
