//! placeholder
use crate::StoreError;
use std::path::Path;
pub(crate) fn kept_bytes(_p: &Path) -> Result<u64, StoreError> {
    Ok(0)
}
