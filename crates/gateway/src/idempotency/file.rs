//! What is kept for a key, as bytes: a line of JSON, then the body of the answer, if there is one.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use shoal_base::PackageId;

use crate::birth::Birth;

/// What is kept for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// An answer was begun.
    Begun {
        /// Of the request.
        fingerprint: [u8; 32],
        package: PackageId,
        birth: Birth,
    },
    /// The answer.
    Answer {
        /// Of the request.
        fingerprint: [u8; 32],
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    },
}

impl Kept {
    pub(super) const fn fingerprint(&self) -> &[u8; 32] {
        match self {
            Self::Begun { fingerprint, .. } | Self::Answer { fingerprint, .. } => fingerprint,
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut head = json!({
            "fingerprint": blake3::Hash::from_bytes(*self.fingerprint()).to_hex().as_str(),
        });
        let mut rest = &Bytes::new();
        match self {
            Self::Begun { package, birth, .. } => {
                head["package"] = package.to_string().into();
                head["birth"] = birth.to_json();
            }
            Self::Answer { status, headers, body, .. } => {
                let headers = headers
                    .iter()
                    .filter_map(|(name, value)| Some(json!([name.as_str(), value.to_str().ok()?])));
                head["headers"] = headers.collect();
                head["status"] = status.as_u16().into();
                rest = body;
            }
        }
        let mut bytes = head.to_string().into_bytes();
        bytes.push(b'\n');
        bytes.extend(rest);
        bytes
    }

    /// Reads what was written; nothing, when it is damaged.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let head: Value = serde_json::from_slice(&bytes[..end]).ok()?;
        let fingerprint = blake3::Hash::from_hex(head["fingerprint"].as_str()?).ok()?;
        let fingerprint = *fingerprint.as_bytes();
        if let Some(package) = head["package"].as_str() {
            let package = package.parse::<PackageId>().ok()?;
            return Some(Self::Begun {
                fingerprint,
                package,
                birth: Birth::from_json(&head["birth"])?,
            });
        }
        let status = u16::try_from(head["status"].as_u64()?).ok()?;
        let mut headers = HeaderMap::new();
        for pair in head["headers"].as_array()? {
            let name = HeaderName::try_from(pair[0].as_str()?).ok()?;
            headers.append(name, HeaderValue::try_from(pair[1].as_str()?).ok()?);
        }
        Some(Self::Answer {
            fingerprint,
            status: StatusCode::from_u16(status).ok()?,
            headers,
            body: Bytes::copy_from_slice(&bytes[end + 1..]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_base::Digest;

    #[test]
    fn damaged_files_are_not_read() {
        let mut headers = HeaderMap::new();
        headers.insert("x-shoal-seed", HeaderValue::from_static("4"));
        let body = Bytes::from_static(b"a\nb");
        let answer = Kept::Answer { fingerprint: [7; 32], status: StatusCode::OK, headers, body };
        let package = PackageId(Digest([1; 32]));
        let begun = Kept::Begun { fingerprint: [8; 32], package, birth: Birth::new(u64::MAX) };
        for (kept, body_bytes) in [(answer, 3), (begun, 0)] {
            let bytes = kept.write();
            assert_eq!(Kept::read(&bytes).unwrap(), kept);
            for length in 0..bytes.len() - body_bytes {
                assert_eq!(Kept::read(&bytes[..length]), None);
            }
        }
    }
}
