#!/usr/bin/env python3
"""Expected ids of real texts, by the libraries of the publishers of each format.

Usage: encode_corpora.py SHARED_DATA > ../fixtures/encoded_corpora.json
Needs: blake3, sentencepiece, tokenizers, tiktoken (versions are written into the output).

Each entry: how many ids a text has and the BLAKE3 of the ids as little-endian u32. No beginning or end
tokens, no control tokens from text.
"""

import importlib.metadata
import json
import struct
import sys
from pathlib import Path

import blake3
import sentencepiece
import tiktoken
import tiktoken.load
import tokenizers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TAIL = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + TAIL +
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + TAIL +
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


# Texts as JSON strings, one per line.
LINES = "tokenizers/Joakimpalm-Zen+gridcore-runner/tests/fixtures/tokenizer-corpus.txt"

HF = {
    "llama2-hf": "tokenizers/PsycheFoundation+psyche/shared/data-provider/tests/resources/"
                 "llama2_tokenizer.json",
    "story-hf": "models/LearningInfiniTensor+learning-lm-rs/models/story/tokenizer.json",
}


def isolated(pattern):
    return tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated", False)


def byte_level(use_regex=False):
    return tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def digits_then_gpt2():
    return [tokenizers.pre_tokenizers.Digits(individual_digits=True), byte_level(True)]


PRE = {
    "gpt-2": [byte_level(True)],
    "llama-bpe": [isolated(LLAMA3), byte_level()],
    "qwen2": [isolated(QWEN2), byte_level()],
    "qwen35": [isolated(QWEN35), byte_level()],
    "smollm": digits_then_gpt2(),
    "starcoder": digits_then_gpt2(),
    "refact": digits_then_gpt2(),
    "tekken": [isolated(TEKKEN), byte_level()],
    "gpt-4o": [isolated(GPT4O), byte_level()],
    "deepseek-v3": [
        isolated(r"\p{N}{1,3}"), isolated("[一-龥぀-ゟ゠-ヿ]+"), isolated(DEEPSEEK3), byte_level(),
    ],
}


def gguf_fields(path):
    data = path.read_bytes()
    at = 4

    def number(form):
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return value

    def text():
        nonlocal at
        length = number("Q")
        at += length
        return data[at - length:at].decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            kind, count = number("I"), number("Q")
            return [value(kind) for _ in range(count)]
        return number({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?",
                       10: "Q", 11: "q", 12: "d"}[kind])

    number("I"), number("Q")
    fields = {}
    for _ in range(number("Q")):
        key = text()
        fields[key] = value(number("I"))
    return fields


def from_gguf(path, pre=None):
    """A byte-level BPE vocabulary in a GGUF file, as the `tokenizers` library runs it."""
    fields = gguf_fields(path)
    pre = pre or fields["tokenizer.ggml.pre"]
    kinds = fields["tokenizer.ggml.token_type"]
    names = fields["tokenizer.ggml.tokens"]
    vocab = {name: id for id, (name, kind) in enumerate(zip(names, kinds)) if kind == 1}
    merges = [tuple(line.split(" ", 1)) for line in fields["tokenizer.ggml.merges"]]
    whole_word_first = pre in ("llama-bpe", "tekken")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=vocab, merges=merges, ignore_merges=whole_word_first))
    if pre.startswith("qwen"):
        tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(PRE[pre])
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


# Inclusive ranges of characters that every Unicode version of the last twenty years has.
RANGES = [
    (0x61, 0x7A), (0x41, 0x5A), (0x20, 0x20), (0x30, 0x39), (0x09, 0x0D), (0x21, 0x2F), (0x3A, 0x40),
    (0xA0, 0xFF), (0x100, 0x17F), (0x1C4, 0x1CC), (0x2B0, 0x2B8), (0x300, 0x30F), (0x391, 0x3A1),
    (0x410, 0x44F), (0x5D0, 0x5EA), (0x621, 0x63A), (0x660, 0x669), (0x905, 0x939), (0x93E, 0x94C),
    (0xE01, 0xE3A), (0x2000, 0x200A), (0x2028, 0x2029), (0x2160, 0x2188), (0x20A0, 0x20A9),
    (0x3000, 0x3002), (0x3041, 0x3093), (0x4E00, 0x4FFF), (0xAC00, 0xACFF), (0x1D400, 0x1D41F),
    (0x1F600, 0x1F64F), (0x20000, 0x200FF), (0xBC, 0xBE),
]
WORDS = ["'s", "'LL", "'Ve", "'\u017f", " ", "  ", "\n", "\r\n", "\n\n", "    ", "...", "//", "\u2581"]


def generated(count):
    """Text that is hard to split. The tests make the same."""
    state = 0x9E3779B97F4A7C15
    out = []

    def draw(below):
        nonlocal state
        state ^= (state << 13) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 7
        state ^= (state << 17) & 0xFFFFFFFFFFFFFFFF
        return (state >> 33) % below

    for _ in range(count):
        kind = draw(4)
        if kind == 0:
            out.append(WORDS[draw(len(WORDS))])
            continue
        low, high = RANGES[draw(len(RANGES)) if kind == 1 else draw(5)]
        for _ in range(1 + draw(4)):
            out.append(chr(low + draw(high - low + 1)))
    return "".join(out)


def main():
    data = Path(sys.argv[1])
    vocabularies = data / "tokenizers"
    gguf = vocabularies / "ggerganov+llama.cpp/models"
    small = vocabularies / "Joakimpalm-Zen+gridcore-runner/tests/fixtures"
    spm = sentencepiece.SentencePieceProcessor(
        model_file=str(vocabularies / "karpathy+llama2.c/tokenizer.model"))
    characters = sentencepiece.SentencePieceProcessor(
        model_file=str(data / "models/EN10+BabyLlama/tok105/tok105.model"))
    llama3 = tiktoken.Encoding(
        "llama3", pat_str=LLAMA3, special_tokens={},
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(
            str(vocabularies / "meta-llama+llama-models/models/llama3/tokenizer.model")))
    def from_hf(name, control):
        tokenizer = tokenizers.Tokenizer.from_file(str(data / HF[name]))
        tokenizer.encode_special_tokens = not control
        return lambda text: tokenizer.encode(text, add_special_tokens=False).ids

    llama_bpe = vocabularies / "llama.cpp/ggml-vocab-llama-bpe.gguf"
    encoders = {
        "llama2-sentencepiece": spm.encode,
        "tok105-sentencepiece": characters.encode,
        "llama3-tiktoken": llama3.encode_ordinary,
        "llama2-hf": from_hf("llama2-hf", False),
        "llama2-hf with control tokens": from_hf("llama2-hf", True),
        "story-hf": from_hf("story-hf", False),
        "llama-bpe": from_gguf(llama_bpe),
        "llama-bpe as tekken": from_gguf(llama_bpe, "tekken"),
        "llama-bpe as gpt-4o": from_gguf(llama_bpe, "gpt-4o"),
        "llama-bpe as qwen35": from_gguf(llama_bpe, "qwen35"),
        "llama-bpe as deepseek-v3": from_gguf(llama_bpe, "deepseek-v3"),
        "qwen2": from_gguf(vocabularies / "llama.cpp/ggml-vocab-qwen2.gguf"),
        "gpt-2": from_gguf(gguf / "ggml-vocab-gpt-2.gguf"),
        "starcoder": from_gguf(gguf / "ggml-vocab-starcoder.gguf"),
        "refact": from_gguf(gguf / "ggml-vocab-refact.gguf"),
    }
    for name in ("gpt4o", "llama3", "qwen2", "qwen35", "smollm"):
        encoders[f"small-{name}"] = from_gguf(small / f"vocab-bpe-{name}.gguf")
    texts = [
        "generated",
        "text/karpathy+char-rnn/data/tinyshakespeare/input.txt",
        "text/hemingkx+Spec-Bench/data/spec_bench/question.jsonl",
        "text/karpathy+minbpe/tests/taylorswift.txt",
        LINES,
        "tokenizers/Joakimpalm-Zen+gridcore-runner/tests/fixtures/mixed-corpus.txt",
        "tokenizers/ggerganov+llama.cpp/models/ggml-vocab-llama-bpe.gguf.inp",
        "tokenizers/llama.cpp/ggml-vocab-llama-bpe.gguf.inp",
        # Code, and characters of many scripts.
        "tokenizers/ggerganov+llama.cpp/models/templates/"
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja",
        "tokenizers/PsycheFoundation+psyche/shared/data-provider/tests/resources/"
        "llama2_tokenizer.json",
    ]
    record = {"libraries": {
        name: importlib.metadata.version(name)
        for name in ("sentencepiece", "tiktoken", "tokenizers")
    }, "encoded": {}}
    for name, encode in encoders.items():
        entry = record["encoded"][name] = {}
        for path in texts:
            if path == "generated":
                parts = [generated(100_000)]
            else:
                parts = [(data / path).read_bytes().decode()]
            if path == LINES:
                parts = [json.loads(line) for line in parts[0].splitlines() if line]
            ids = [id for part in parts for id in encode(part)]
            digest = blake3.blake3(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()
            entry[path] = {"ids": len(ids), "blake3": digest}
        print(name, file=sys.stderr)
    json.dump(record, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
