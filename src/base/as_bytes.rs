//! What peers sign, inside messages: its own bytes, as they were signed, checked as they are read.
use crate::base::fork::{FORK_BYTES, Fork};
use crate::base::statement::{
    HEAD_BYTES, Head, LOST_BYTES, Lost, SIGNATURE_BYTES, STATEMENT_BYTES, Signature, Statement,
};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;

/// Takes exactly so many bytes.
struct Exactly<const BYTES: usize>;

impl<const BYTES: usize> Visitor<'_> for Exactly<BYTES> {
    type Value = [u8; BYTES];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BYTES} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

macro_rules! as_bytes {
    ($name:ident, $bytes:ident, $encode:expr, $decode:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let bytes: [u8; $bytes] = $encode(self);
                serializer.serialize_bytes(&bytes)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $decode(&deserializer.deserialize_byte_buf(Exactly::<$bytes>)?).map_err(D::Error::custom)
            }
        }
    };
}

as_bytes!(Head, HEAD_BYTES, Head::encode, Head::decode);
as_bytes!(Lost, LOST_BYTES, Lost::encode, Lost::decode);
as_bytes!(Statement, STATEMENT_BYTES, Statement::encode, Statement::decode);
as_bytes!(Fork, FORK_BYTES, Fork::encode, Fork::decode);
as_bytes!(
    Signature,
    SIGNATURE_BYTES,
    |signature: &Signature| signature.0,
    |bytes: &[u8; SIGNATURE_BYTES]| { Ok::<_, std::convert::Infallible>(Signature(*bytes)) }
);
