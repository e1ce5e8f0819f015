//! Largest sizes accepted from a model file. They bound loops and allocations together with the
//! size of the file itself: nothing is allocated for a length that the file cannot hold.

/// Metadata entries of a GGUF file. Real ones have fewer than 100.
pub(super) const METADATA_COUNT_MAX: u64 = 1 << 16;
/// Bytes of a GGUF metadata key; the format allows no more.
pub(super) const KEY_BYTES_MAX: u64 = (1 << 16) - 1;
/// Tensors of one file. 1024 layers of 16 tensors are 2^14.
pub(super) const TENSOR_COUNT_MAX: u64 = 1 << 16;
/// Bytes of a tensor name. GGUF allows 63, Hugging Face names are longer.
pub(super) const TENSOR_NAME_BYTES_MAX: u64 = 256;
/// Dimensions of a tensor; GGUF allows no more.
pub(super) const DIMENSION_COUNT_MAX: u64 = 4;
/// A name or an enumeration in metadata, such as the architecture.
pub(super) const SHORT_TEXT_BYTES_MAX: u64 = 4 << 10;
/// A chat template. The longest in use have some 20 KiB.
pub(super) const TEMPLATE_BYTES_MAX: u64 = 1 << 20;
/// One token or merge of a vocabulary.
pub(super) const PIECE_BYTES_MAX: u64 = 4 << 10;
/// Entries of a vocabulary or a list of merges.
pub(super) const PIECE_COUNT_MAX: u64 = 1 << 21;
/// Normalisation table of a `SentencePiece` model; the usual one has 240 KiB.
pub(super) const CHARSMAP_BYTES_MAX: u64 = 4 << 20;
/// Files of one model.
pub(super) const SHARD_COUNT_MAX: u64 = 1024;
/// Header of a safetensors file. 2^16 tensors at 200 bytes are 13 MB.
pub(super) const SAFETENSORS_HEADER_BYTES_MAX: u64 = 16 << 20;
/// `config.json` and `generation_config.json`.
pub(super) const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Shard index of a Hugging Face folder.
pub(super) const INDEX_BYTES_MAX: u64 = 16 << 20;
/// A tokenizer file. The largest in use have some 35 MB.
pub(super) const TOKENIZER_BYTES_MAX: u64 = 64 << 20;
