//! Structs of zes_api.h in the memory of the caller, and the canary behind each.

use afd_fake_recorded::{number, write};
use afd_intel::levelzero::layout::{
    CORE_PROPERTIES, CORE_PROPERTIES_STYPE, DEVICE_PROPERTIES, FieldType, NEXT, StructField, StructLayout,
};
use serde_json::Value;

use crate::recording::{INVALID_ARGUMENT, SysmanReturn, write_failed};

const CANARY: [u8; 256] = [0xa5; 256];

/// Writes a struct, and the canary behind it.
pub(crate) fn write_struct(
    target: *mut u8,
    layout: &StructLayout,
    value: &Value,
) -> Result<(), SysmanReturn> {
    has_type(target, layout)?;
    fill(target, layout, value);
    put(target, layout.bytes, &CANARY);
    Ok(())
}

/// Writes a struct and the one that is chained behind it.
pub(crate) fn write_chain(
    target: *mut u8,
    layout: &StructLayout,
    next: &StructLayout,
    value: &Value,
) -> Result<(), SysmanReturn> {
    has_type(target, layout)?;
    // SAFETY: a struct with a type number has a pointer there, which is null or leads to another struct.
    let chained = unsafe { target.add(NEXT).cast::<*mut u8>().read_unaligned() };
    write_struct(target, layout, value)?;
    if chained.is_null() { Ok(()) } else { write_struct(chained, next, value) }
}

/// Writes an array of structs; their number where the caller has no array.
pub(crate) fn write_list(
    count: *mut u32,
    target: *mut u8,
    layout: &StructLayout,
    value: &Value,
) -> Result<(), SysmanReturn> {
    let values = value.as_array().ok_or(INVALID_ARGUMENT)?;
    // SAFETY: the caller passes the number of structs for which it has memory.
    let capacity = unsafe { count.as_ref() }.copied().ok_or(INVALID_ARGUMENT)? as usize;
    if target.is_null() || capacity == 0 {
        return write(count, values.len() as u32).map_err(write_failed);
    }
    let filled = capacity.min(values.len());
    for (index, value) in values.iter().take(filled).enumerate() {
        // SAFETY: `index` is below the capacity of the caller's array.
        let element = unsafe { target.add(index * layout.bytes) };
        has_type(element, layout)?;
        fill(element, layout, value);
    }
    put(target, filled * layout.bytes, &CANARY);
    write(count, filled as u32).map_err(write_failed)
}

/// The caller has set the type number of the struct.
fn has_type(target: *mut u8, layout: &StructLayout) -> Result<(), SysmanReturn> {
    if target.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: the caller passes a struct of this type, which begins with the number.
    let number = |offset: usize| unsafe { target.add(offset).cast::<u32>().read_unaligned() };
    let is_typed = layout.stype.is_none_or(|stype| number(0) == stype);
    let has_core = layout.name != DEVICE_PROPERTIES.name || number(CORE_PROPERTIES) == CORE_PROPERTIES_STYPE;
    if is_typed && has_core { Ok(()) } else { Err(INVALID_ARGUMENT) }
}

fn fill(target: *mut u8, layout: &StructLayout, value: &Value) {
    for StructField(name, offset, kind) in layout.fields {
        let field = &value[*name];
        if let FieldType::Struct(inner) = kind {
            // SAFETY: the struct has another one there.
            fill(unsafe { target.add(*offset) }, inner, field);
        } else {
            put(target, *offset, &bytes(*kind, field));
        }
    }
}

fn bytes(kind: FieldType, value: &Value) -> Vec<u8> {
    match kind {
        FieldType::Bool => vec![u8::from(value == true)],
        FieldType::U8 => vec![number(value) as u8],
        FieldType::U32 | FieldType::I32 => (number(value) as u32).to_ne_bytes().to_vec(),
        FieldType::U64 | FieldType::I64 => number(value).to_ne_bytes().to_vec(),
        FieldType::F64 => value.as_f64().unwrap_or(0.0).to_ne_bytes().to_vec(),
        FieldType::Text(length) => {
            let text = value.as_str().unwrap_or_default().bytes().take(length - 1);
            text.chain(std::iter::repeat(0)).take(length).collect()
        }
        FieldType::U64s(length) => {
            (0..length).flat_map(|index| number(&value[index]).to_ne_bytes()).collect()
        }
        FieldType::Struct(_) => Vec::new(),
    }
}

fn put(target: *mut u8, offset: usize, bytes: &[u8]) {
    // SAFETY: the caller passes a buffer that is longer than the struct and the canary, or a test is to fail.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.add(offset), bytes.len()) };
}
