//! The tensor directory: names, shapes, types, ranges.

use std::collections::BTreeMap;

use super::super::input::Cursor;
use super::super::tensors::FileTensor;
use super::super::{ElementType, Input, SourceError, limits};

/// Parses the directory at the cursor. The data starts behind it, at the next multiple of
/// `alignment`.
pub(super) fn parse(
    cursor: &mut Cursor<'_>,
    count: u64,
    alignment: u64,
) -> Result<BTreeMap<String, FileTensor>, SourceError> {
    let mut tensors = BTreeMap::new();
    let mut extents = Vec::new();
    for _ in 0..count {
        let entry_offset = cursor.offset();
        let (tensor, bytes) = entry(cursor, alignment)?;
        if tensors.contains_key(&tensor.name) {
            return Err(SourceError::Duplicate {
                file: cursor.input().file().to_path_buf(),
                offset: entry_offset,
                name: tensor.name,
            });
        }
        extents.push(Extent { start: tensor.offset, bytes, entry_offset });
        tensors.insert(tensor.name.clone(), tensor);
    }
    let input = cursor.input();
    let padded = cursor.offset().checked_next_multiple_of(alignment);
    let data = padded.ok_or_else(|| input.malformed(cursor.offset(), "the data fits the file"))?;
    check_extents(input, data, &mut extents)?;
    for tensor in tensors.values_mut() {
        // In the file by the check above, so this cannot overflow.
        tensor.offset += data;
    }
    Ok(tensors)
}

/// Where a tensor lies, relative to the data, and its directory entry for messages.
struct Extent {
    start: u64,
    bytes: u64,
    entry_offset: u64,
}

fn check_extents(input: &Input, data: u64, extents: &mut [Extent]) -> Result<(), SourceError> {
    extents.sort_unstable_by_key(|extent| extent.start);
    let mut end = 0;
    for extent in extents {
        let outside = || input.malformed(extent.entry_offset, "a tensor offset is in the file");
        let start = data.checked_add(extent.start).ok_or_else(outside)?;
        input.check_range(start, extent.bytes)?;
        if extent.start < end {
            let rule = "tensors do not overlap";
            return Err(input.malformed(extent.entry_offset, rule));
        }
        end = extent.start + extent.bytes;
    }
    Ok(())
}

/// One tensor, its offset still relative to the data, and its length in bytes.
fn entry(cursor: &mut Cursor<'_>, alignment: u64) -> Result<(FileTensor, u64), SourceError> {
    let input = cursor.input();
    let name_max = limits::TENSOR_NAME_BYTES_MAX;
    let name = cursor.text("bytes of a tensor name", name_max)?;
    let shape_offset = cursor.offset();
    let dimension_count = u64::from(cursor.u32()?);
    let most = limits::DIMENSION_COUNT_MAX;
    if !(1..=most).contains(&dimension_count) {
        return Err(input.oversize(shape_offset, "dimensions", dimension_count, most));
    }
    let mut shape = Vec::new();
    for _ in 0..dimension_count {
        shape.push(cursor.u64()?);
    }
    let number = cursor.u32()?;
    let element = match ElementType::from_ggml(number) {
        Ok(element) => element,
        Err(element) => {
            return Err(SourceError::UnknownElementType {
                file: input.file().to_path_buf(),
                tensor: name,
                element,
            });
        }
    };
    let bytes =
        tensor_bytes(&shape, element).map_err(|rule| input.malformed(shape_offset, rule))?;
    let start_offset = cursor.offset();
    let offset = cursor.u64()?;
    if !offset.is_multiple_of(alignment) {
        let rule = "a tensor offset is a multiple of the alignment";
        return Err(input.malformed(start_offset, rule));
    }
    // The file has the fastest dimension first, and may end with dimensions of 1.
    while shape.len() > 2 && shape.last() == Some(&1) {
        shape.pop();
    }
    shape.reverse();
    let tensor = FileTensor { name, shape, element, input: 0, offset, scales_offset: 0 };
    Ok((tensor, bytes))
}

/// Bytes of a tensor, or the rule its shape breaks.
fn tensor_bytes(fastest_first: &[u64], element: ElementType) -> Result<u64, &'static str> {
    let (block_elements, block_bytes) = element.block();
    if fastest_first.contains(&0) {
        return Err("a dimension is not 0");
    }
    if !fastest_first[0].is_multiple_of(block_elements as u64) {
        return Err("the first dimension is a multiple of the block of the type");
    }
    let product = fastest_first.iter().try_fold(1_u64, |n, &d| n.checked_mul(d));
    product
        .and_then(|n| (n / block_elements as u64).checked_mul(block_bytes as u64))
        .ok_or("the size of a tensor fits 64 bits")
}
