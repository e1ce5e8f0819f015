//! Headers of safetensors files, and the index of sharded ones.
//!
//! The header is parsed here and not by the `safetensors` crate: that one wants the whole file in
//! memory, lets a repeated name win silently and does not say where a rule is broken.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, Visitor,
};

use super::super::input::Cursor;
use super::super::tensors::FileTensor;
use super::super::{ElementType, Input, SourceError, limits};
use super::bounded::Bounded;

const HEADER_OFFSET: u64 = 8;
const METADATA: &str = "__metadata__";
const DIMENSION_COUNT_MAX: usize = limits::DIMENSION_COUNT_MAX as usize;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Bounded<u64, DIMENSION_COUNT_MAX>,
    data_offsets: [u64; 2],
}

/// The tensors of a file. Their ranges cover the data without gap or overlap, as the format wants.
pub(super) fn parse(input: &Input) -> Result<BTreeMap<String, FileTensor>, SourceError> {
    let len = Cursor::new(input, 0).u64()?;
    if len > limits::SAFETENSORS_HEADER_BYTES_MAX {
        let limit = limits::SAFETENSORS_HEADER_BYTES_MAX;
        return Err(input.oversize(0, "header bytes", len, limit));
    }
    let header = input.read(HEADER_OFFSET, len)?;
    let entries: Entries<Entry> = json(input, &header)?;
    let data = HEADER_OFFSET + len;
    let mut tensors = BTreeMap::new();
    let mut ranges = Vec::new();
    for (name, entry) in entries.0 {
        let bytes = tensor_bytes(input, &name, &entry)?;
        let [start, end] = entry.data_offsets;
        if end.checked_sub(start) != Some(bytes) {
            let rule = "data_offsets have the length that dtype and shape need";
            return Err(key(input, name, rule));
        }
        ranges.push((start, end, name.clone()));
        let tensor = FileTensor {
            element: element(input, &name, &entry)?,
            shape: entry.shape.0,
            name: name.clone(),
            input: 0,
            offset: data.saturating_add(start),
            scales_offset: 0,
        };
        tensors.insert(name, tensor);
    }
    ranges.sort_unstable();
    let mut position = 0;
    for (start, end, name) in ranges {
        if start != position {
            return Err(key(input, name, "data_offsets leave no gap and no overlap"));
        }
        input.check_range(data, end)?;
        position = end;
    }
    if data + position != input.size() {
        return Err(input.malformed(data + position, "the file ends with its last tensor"));
    }
    Ok(tensors)
}

fn element(input: &Input, name: &str, entry: &Entry) -> Result<ElementType, SourceError> {
    match entry.dtype.as_str() {
        "F32" => Ok(ElementType::F32),
        "F16" => Ok(ElementType::F16),
        "BF16" => Ok(ElementType::Bf16),
        _ => Err(SourceError::UnknownElementType {
            file: input.file().to_path_buf(),
            tensor: name.to_owned(),
            element: format!("{:?}", entry.dtype),
        }),
    }
}

fn tensor_bytes(input: &Input, name: &str, entry: &Entry) -> Result<u64, SourceError> {
    if entry.shape.0.contains(&0) {
        return Err(key(input, name.to_owned(), "a dimension is not 0"));
    }
    let (_, size) = element(input, name, entry)?.block();
    let mut factors = entry.shape.0.iter();
    let bytes = factors.try_fold(size as u64, |n, &dimension| n.checked_mul(dimension));
    bytes.ok_or_else(|| key(input, name.to_owned(), "the size of a tensor fits 64 bits"))
}

fn key(input: &Input, name: String, rule: &'static str) -> SourceError {
    SourceError::Key { file: input.file().to_path_buf(), key: name, rule }
}

/// The shard of each tensor. Shards are plain names of safetensors files in the same folder.
pub(super) fn index(input: &Input) -> Result<BTreeMap<String, String>, SourceError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: Entries<String>,
    }
    let bytes = input.read_all(limits::INDEX_BYTES_MAX)?;
    let index: Index = json(input, &bytes)?;
    let plain = |file: &str| {
        file.ends_with(".safetensors") && !file.contains(['/', '\\', '\0']) && file.len() <= 255
    };
    if let Some((name, _)) = index.weight_map.0.iter().find(|(_, file)| !plain(file)) {
        let rule = "a shard is a *.safetensors file in the same folder";
        return Err(key(input, name.clone(), rule));
    }
    Ok(index.weight_map.0)
}

fn json<T: DeserializeOwned>(input: &Input, bytes: &[u8]) -> Result<T, SourceError> {
    serde_json::from_slice(bytes)
        .map_err(|source| SourceError::Json { file: input.file().to_path_buf(), source })
}

/// A JSON object of limited size without repeated keys; `__metadata__` is passed over.
struct Entries<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one entry per tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if name.len() as u64 > limits::TENSOR_NAME_BYTES_MAX {
                        return Err(A::Error::custom("a tensor name has at most 256 bytes"));
                    }
                    if entries.len() as u64 == limits::TENSOR_COUNT_MAX {
                        return Err(A::Error::custom("a file has at most 65536 tensors"));
                    }
                    if entries.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("{name:?} occurs twice")));
                    }
                    entries.insert(name, map.next_value()?);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Map(PhantomData))
    }
}
