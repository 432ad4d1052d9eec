//! The structs of `zes_api.h` that Sysman fills: their size, their type number, and where their fields are.
//!
//! The layout is that of a 64-bit machine and of specification 1.17, which is the same in every earlier release that has the
//! struct. A test computes it from the fields in the order of the header.

mod structs;

use serde_json::{Map, Value, json};

pub use self::structs::*;

/// A struct of the header.
#[derive(Debug)]
pub struct StructLayout {
    /// Its name, without `zes_` and `_t`.
    pub name: &'static str,
    /// Its size.
    pub bytes: usize,
    /// `stype`, which the caller sets; none where the struct has no such field.
    pub stype: Option<u32>,
    /// Its fields, without `stype` and `pNext`.
    pub fields: &'static [StructField],
}

/// A field: its name in the header, its offset and its type.
#[derive(Clone, Copy, Debug)]
pub struct StructField(pub &'static str, pub usize, pub FieldType);

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub enum FieldType {
    /// `ze_bool_t`, one byte.
    Bool,
    /// `uint8_t`.
    U8,
    /// `uint32_t`, and every enum and set of flags.
    U32,
    /// `int32_t`.
    I32,
    /// `uint64_t`.
    U64,
    /// `int64_t`.
    I64,
    /// `double`.
    F64,
    /// An array of characters of this length.
    Text(usize),
    /// An array of `uint64_t` of this length.
    U64s(usize),
    /// A struct.
    Struct(&'static StructLayout),
}

use FieldType::{Bool, F64, I32, I64, Struct, Text, U8, U32, U64, U64s};

/// Where `pNext` is in every struct with a type number.
pub const NEXT: usize = 8;

impl StructLayout {
    /// The struct as a value with the names of the header. Bytes that are too short are no struct.
    pub fn read(&self, bytes: &[u8]) -> Option<Value> {
        let fields = self.fields.iter().map(|StructField(name, offset, kind)| {
            Some(((*name).to_owned(), kind.read(bytes.get(*offset..)?)?))
        });
        Some(Value::Object(fields.collect::<Option<Map<_, _>>>()?))
    }

    /// The first structs of an array of `passed`, of which a call says that there are `reported`. It may say more, but has written
    /// no more than it was passed.
    pub fn read_list(&self, bytes: &[u8], passed: u32, reported: u32) -> Option<Value> {
        let structs = bytes.chunks_exact(self.bytes).take(passed.min(reported) as usize);
        structs.map(|bytes| self.read(bytes)).collect()
    }
}

impl FieldType {
    fn read(self, bytes: &[u8]) -> Option<Value> {
        Some(match self {
            Bool => json!(*bytes.first()? != 0),
            U8 => json!(*bytes.first()?),
            U32 => json!(u32::from_ne_bytes(*bytes.first_chunk()?)),
            I32 => json!(i32::from_ne_bytes(*bytes.first_chunk()?)),
            U64 => json!(u64::from_ne_bytes(*bytes.first_chunk()?)),
            I64 => json!(i64::from_ne_bytes(*bytes.first_chunk()?)),
            // A number that is none is null.
            F64 => json!(f64::from_ne_bytes(*bytes.first_chunk()?)),
            Text(length) => json!(afd_probe::ffi::text(bytes.get(..length)?)),
            U64s(length) => {
                let numbers = bytes.get(..length * 8)?.chunks_exact(8);
                numbers
                    .map(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)))
                    .collect::<Option<_>>()?
            }
            Struct(layout) => layout.read(bytes)?,
        })
    }

    /// The size of a field of this type.
    pub const fn bytes(self) -> usize {
        match self {
            Bool | U8 => 1,
            U32 | I32 => 4,
            U64 | I64 | F64 => 8,
            Text(length) => length,
            U64s(length) => length * 8,
            Struct(layout) => layout.bytes,
        }
    }
}

#[cfg(test)]
mod tests;
