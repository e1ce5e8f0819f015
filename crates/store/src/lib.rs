//! What survives a restart: packages, their blobs and names, and downloads on their way.
//!
//! Layer 3. The only place that maps files into memory. A [`Store`] is one folder; several
//! processes may use it at once. What an interrupted process leaves behind is never taken for
//! whole. Format: `docs/reference/store.md`.
#![expect(unsafe_code, reason = "memory maps, and one call of the C library, need it")]

mod answers;
mod error;
pub mod fetch;
mod files;
pub mod fuzz;
mod home;
mod index;
mod key;
mod list;
mod lock;
mod map;
mod name;
mod node_folder;
mod partial;
mod record;
mod share;
mod staging;
mod store;
mod sweep;
mod verify;

pub use answers::{ANSWER_LIFE, KeptAnswers};
pub use error::StoreError;
pub use home::{HOME_VARIABLE, default_home};
pub use list::{Listed, PackageSummary};
pub use name::{NameError, PackageName};
pub use node_folder::NodeFolder;
pub use partial::{BlobDownload, Holding, LayerDownload};
pub use staging::{Committed, Import};
pub use store::{Removed, Store};
pub use sweep::{Health, Swept};
pub use verify::{Damage, Verified};
