//! What people call a group of consumers.
use crate::base::limits::GROUP_NAME_BYTES_MAX;
use crate::base::name::NameError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The checked name of a group: 1 to 64 of letters, digits, `-`, `_` and `.`, not beginning with `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_legal = name.bytes().all(legal) && !name.is_empty() && !name.starts_with('.');
        if is_legal && name.len() <= GROUP_NAME_BYTES_MAX {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Group)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for GroupName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for GroupName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_names_are_checked_at_the_edge() {
        for good in ["mailers", "a", "A.b_c-1", &"x".repeat(64)] {
            assert_eq!(GroupName::new(good).map(|n| n.as_str().to_owned()), Ok(good.to_owned()));
        }
        for bad in ["", "../x", "a/b", ".a", "a b", "Ü", &"x".repeat(65)] {
            assert_eq!(GroupName::new(bad), Err(NameError::Group), "{bad:?}");
        }
    }
}
