//! The list of targets. A new one is a file below this folder and a word here.

use crate::Target;

/// Declares the modules and lists their `TARGET`s.
macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*

        /// Every target.
        pub const ALL: &[Target] = &[$($name::TARGET),*];
    };
}

targets! { architecture, digest }

/// The target with a name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    ALL.iter().copied().find(|target| target.name == name)
}
