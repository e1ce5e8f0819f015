//! Models split over several files: `NAME-00001-of-00003.gguf` and so on. The first part has the
//! metadata; all have tensors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::tensors::FileTensor;
use super::super::{Input, SourceError, limits};
use super::GgufFile;
use super::metadata::wrong;

const NUMBER_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const TENSOR_COUNT_KEY: &str = "split.tensors.count";

/// The files and tensors of a model. Those of its first part are moved out of it.
pub(super) fn collect(
    first: &mut GgufFile,
) -> Result<(Vec<Input>, BTreeMap<String, FileTensor>), SourceError> {
    let mut inputs = vec![first.input.clone()];
    let mut tensors = std::mem::take(&mut first.tensors);
    let count = first.metadata.u32(&first.input, COUNT_KEY)?.unwrap_or(1);
    if count <= 1 {
        return Ok((inputs, tensors));
    }
    if u64::from(count) > limits::SHARD_COUNT_MAX {
        return Err(wrong(&first.input, COUNT_KEY, "at most 1024"));
    }
    check_number(first, 0)?;
    for index in 1..count {
        let part = GgufFile::parse(Input::open(&part_path(&first.input, index, count)?)?)?;
        check_number(&part, index)?;
        for (name, mut tensor) in part.tensors {
            tensor.input = inputs.len();
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(SourceError::Duplicate {
                    file: part.input.file().to_path_buf(),
                    offset: 0,
                    name,
                });
            }
        }
        inputs.push(part.input);
    }
    let announced = first.metadata.u32(&first.input, TENSOR_COUNT_KEY)?;
    if announced.is_some_and(|n| n as usize != tensors.len()) {
        let rule = "the number of tensors in all parts";
        return Err(wrong(&first.input, TENSOR_COUNT_KEY, rule));
    }
    Ok((inputs, tensors))
}

fn check_number(part: &GgufFile, index: u32) -> Result<(), SourceError> {
    if part.metadata.u32(&part.input, NUMBER_KEY)? == Some(index) {
        return Ok(());
    }
    let rule = "counts the parts from 0; open the first part, with the others beside it";
    Err(wrong(&part.input, NUMBER_KEY, rule))
}

/// The path of part `index` of `count`, counted from 0, beside the first.
fn part_path(first: &Input, index: u32, count: u32) -> Result<PathBuf, SourceError> {
    let name = first.file().file_name().and_then(|name| name.to_str());
    let stem = name.and_then(|name| name.strip_suffix(&format!("-00001-of-{count:05}.gguf")));
    let Some(stem) = stem else {
        let rule = "the first part is called NAME-00001-of-COUNT.gguf";
        return Err(wrong(first, COUNT_KEY, rule));
    };
    let file = format!("{stem}-{:05}-of-{count:05}.gguf", index + 1);
    Ok(first.file().with_file_name(file))
}
