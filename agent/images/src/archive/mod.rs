//! Archives of images: those of `docker save` and OCI layouts, in one tar.

mod load;
mod save;

/// Docker's list of the images in an archive.
pub(crate) const DOCKER_LIST_FILE: &str = "manifest.json";
/// What says that an archive is an OCI layout.
pub(crate) const LAYOUT_FILE: &str = "oci-layout";
/// The images of an OCI layout.
pub(crate) const INDEX_FILE: &str = "index.json";
/// The full name of an image, as containerd and Docker write it.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";
/// The name or the tag of an image (OCI image specification, annotations).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
