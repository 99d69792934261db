//! Images of containers: named, pulled, verified, unpacked once, shared by all containers, and taken away again.
//! Must never know what a pod is.

mod accounts;
mod archive;
mod assemble;
mod collect;
mod credentials;
mod digest;
mod download;
mod error;
mod image;
mod layer;
mod manifest;
mod platform;
mod progress;
mod pull;
mod reference;
mod registries;
mod registry;
mod store;

pub use accounts::{AccountsError, account_files};
pub use collect::{Candidate, CollectPolicy, CollectReason, Collection, Usage, choose, collect};
pub use credentials::{Credential, Keyring};
pub use digest::{Digest, DigestError};
pub use error::{Error, ErrorKind, Result};
pub use image::{Image, ImageConfig, ImageId};
pub use platform::Platform;
pub use progress::{Event, LogProgress, Progress};
pub use pull::PullOptions;
pub use reference::{Reference, ReferenceError};
pub use registries::Registries;
pub use store::record::Removed;
pub use store::{Collected, ImageStore, Options};
