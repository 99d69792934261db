//! Why a service does not get what it wants, as its writer is told. Must never be an error of the store.

use std::fmt;

use barque_api::field::FieldError;
use barque_api::kind::GroupVersionKind;
use barque_api::status::Status;

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Fields that cannot be as they are.
    Fields(Vec<FieldError>),
    /// The cluster has none left.
    Internal(String),
}

impl Refusal {
    /// Of one field.
    pub(super) fn of(error: FieldError) -> Self {
        Self::Fields(vec![error])
    }

    /// About a service with this name.
    pub(super) fn to_status(&self, kind: &GroupVersionKind, name: &str) -> Status {
        match self {
            Self::Fields(errors) => Status::invalid(kind, name, errors),
            Self::Internal(why) => Status::internal(why),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields(errors) => {
                for (index, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if index > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Self::Internal(why) => f.write_str(why),
        }
    }
}
