//! Which version two nodes speak. Spec 03, 2.

use crate::codec::{record, wrapper};
use crate::{WireError, limits};

wrapper! {
    /// A version of this protocol.
    pub struct Version(pub u8);
}

record! {
    /// The versions a node speaks, without gaps.
    #[derive(Copy)]
    pub struct VersionRange {
        /// The oldest.
        pub oldest: Version,
        /// The newest.
        pub newest: Version,
    }
    check VersionRange::check;
}

impl VersionRange {
    /// What this code speaks.
    pub const OURS: Self =
        Self { oldest: Version(limits::VERSION_MIN), newest: Version(limits::VERSION) };

    /// The newest version both speak.
    ///
    /// # Errors
    /// When there is none.
    pub fn agree(self, theirs: Self) -> Result<Version, WireError> {
        let newest = self.newest.min(theirs.newest);
        if newest < self.oldest.max(theirs.oldest) {
            return Err(WireError::NoCommonVersion {
                their_min: theirs.oldest.0,
                their_max: theirs.newest.0,
                our_min: self.oldest.0,
                our_max: self.newest.0,
            });
        }
        Ok(newest)
    }

    fn check(&self) -> Result<(), WireError> {
        if self.oldest > self.newest || self.oldest.0 == 0 {
            return Err(WireError::Rule { field: "versions", rule: "oldest 1 to newest" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(oldest: u8, newest: u8) -> VersionRange {
        VersionRange { oldest: Version(oldest), newest: Version(newest) }
    }

    #[test]
    fn neighbours_speak_the_older_version_and_others_refuse() {
        let (n_minus_1, n, n_plus_1) = (range(1, 1), range(1, 2), range(2, 3));
        assert_eq!(n.agree(n_minus_1), Ok(Version(1)));
        assert_eq!(n_minus_1.agree(n), Ok(Version(1)));
        assert_eq!(n.agree(n_plus_1), Ok(Version(2)));
        let error = n_minus_1.agree(n_plus_1).expect_err("one version apart at most");
        assert_eq!(error.to_string(), "they speak versions 2 to 3, this node 1 to 1");
    }
}
