//! How a stored object is changed by a request that says only what changes: JSON patch, JSON merge patch and strategic
//! merge patch. Each gives the whole new object or one error. Must never decide whether the new object is right, and never
//! default, prune or keep account of owners.

pub mod json;
pub mod merge;
pub mod strategic;
