//! Model files of one file: GGUF and llama2.c checkpoints, with all their weights.

use shoal_model::Family;
use shoal_model::source::{ElementType, fuzz};

use crate::seeds;
use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "model_file",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

const CORPUS: &str = "models/Joakimpalm-Zen+gridcore-runner/tests/fuzz/corpus/gguf_open";

fn seeds() -> Vec<Vec<u8>> {
    let vocabulary = seeds::character_spec().to_gguf(10).expect("it has a GGUF form");
    let mut files = vec![
        seeds::gguf(Family::Llama, ElementType::F32, &vocabulary),
        seeds::gguf(Family::Qwen3, ElementType::F16, &vocabulary),
        seeds::checkpoint(),
        seeds::quantized_checkpoint(),
    ];
    files.extend(seeds::real_files(CORPUS));
    files
}

fn run(bytes: &[u8]) {
    let _ = fuzz::gguf_header(bytes);
    let _ = fuzz::model_file(bytes);
}

#[cfg(test)]
mod tests {
    #[test]
    fn our_own_seeds_are_models() {
        for seed in &super::seeds()[..4] {
            let read = super::fuzz::model_file(seed);
            assert!(read.is_ok(), "{read:?}");
        }
    }
}
