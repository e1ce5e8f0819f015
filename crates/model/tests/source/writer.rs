//! GGUF files written by the crate.

use shoal_model::source::gguf::{
    ExportRows, GgufWriteError, GgufWriter, MetadataValue, TensorPlan, export_metadata, export_row,
    export_tensors,
};
use shoal_model::source::{ElementType, GgufVocabulary, TokenizerFiles};
use shoal_model::{Architecture, Family, RopeLayout, RopeScaling, TensorRole};

use crate::support::{assert_weights, open, read_all, tiny, weight};

fn vocabulary() -> GgufVocabulary {
    GgufVocabulary {
        architecture: String::new(),
        model: "gpt2".to_owned(),
        pre: Some("qwen2".to_owned()),
        tokens: vec![b"a".to_vec(), vec![0xff], vec![]],
        scores: vec![0.0, -1.5, 2.0],
        types: vec![1, 3, 6],
        merges: vec![b"a b".to_vec()],
        bos_id: Some(0),
        eos_id: Some(1),
        eot_id: Some(2),
        eom_id: Some(0),
        unknown_id: Some(1),
        separator_id: Some(2),
        padding_id: Some(0),
        add_bos: Some(true),
        add_eos: Some(false),
        add_space_prefix: Some(true),
        remove_extra_whitespaces: Some(false),
        precompiled_charsmap: Some(vec![1, 2, 3]),
    }
}

/// Writes the weights of [`weight`], three rows at a time.
fn export(architecture: &Architecture, element: ElementType) -> Vec<u8> {
    let vocabulary = vocabulary();
    let template = Some("{{ template }}");
    let metadata = export_metadata("a model", architecture, element, &vocabulary, template);
    let tensors = export_tensors(architecture, element);
    let plans = tensors.iter().map(|tensor| tensor.plan.clone()).collect();
    let mut writer = GgufWriter::try_new(Vec::new(), &metadata.unwrap(), plans).unwrap();
    for tensor in tensors {
        match tensor.rows {
            ExportRows::Values(values) => writer.write_rows(&values).unwrap(),
            ExportRows::Model(role) => {
                let rows: Vec<_> = (0..tensor.plan.rows).collect();
                for rows in rows.chunks(3) {
                    let values: Vec<f32> = rows
                        .iter()
                        .map(|&row| export_row(architecture, role, row))
                        .flat_map(|row| {
                            (0..tensor.plan.columns).map(move |column| weight(role, row, column))
                        })
                        .collect();
                    writer.write_rows(&values).unwrap();
                }
            }
        }
    }
    writer.finish().unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    for element in [ElementType::F32, ElementType::F16] {
        for (family, layout) in [
            (Family::Llama, RopeLayout::Interleaved),
            (Family::Mistral, RopeLayout::Interleaved),
            (Family::Qwen2, RopeLayout::Half),
            (Family::Qwen3, RopeLayout::Half),
        ] {
            let mut architecture = tiny(family, layout);
            architecture.sliding_window = (family == Family::Mistral).then_some(16);
            architecture.tied_embeddings = family == Family::Qwen3;
            architecture.rope.theta = 1e6;
            let source = open("m.gguf", export(&architecture, element)).unwrap();
            assert_eq!(source.architecture(), &architecture);
            assert_eq!(source.name(), "a model");
            assert_eq!(source.chat_template(), Some("{{ template }}"));
            let TokenizerFiles::Gguf(read) = source.tokenizer_files().unwrap() else {
                panic!("a GGUF file has its vocabulary");
            };
            // The architecture of the model is written, whatever the vocabulary came from.
            let architecture_name = read.architecture.clone();
            assert!(["llama", "qwen2", "qwen3"].contains(&architecture_name.as_str()));
            let expected = GgufVocabulary { architecture: architecture_name, ..vocabulary() };
            assert_eq!(*read, expected);
            assert_weights(source.as_ref());
            let embedding = source.tensor(TensorRole::Embedding).unwrap();
            assert_eq!(embedding.element, element);
            let norm = source.tensor(TensorRole::FinalNorm).unwrap();
            assert_eq!(norm.element, ElementType::F32);
        }
    }
}

#[test]
fn rope_scaling_survives() {
    for scaling in [
        RopeScaling::None,
        RopeScaling::Linear { factor: 2.0 },
        RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 16.0,
            beta_slow: 2.0,
            attention_factor: 0.1 * 4f64.ln() + 1.0,
            original_context: 32,
        },
        RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        },
    ] {
        let mut architecture = tiny(Family::Llama, RopeLayout::Interleaved);
        architecture.head_width = 64;
        architecture.rope.dims = 64;
        architecture.rope.theta = 500_000.0;
        architecture.rope.scaling = scaling;
        let source = open("m.gguf", export(&architecture, ElementType::F16)).unwrap();
        assert_eq!(source.architecture().rope.scaling, scaling);
    }
}

#[test]
fn half_layout_of_a_llama_becomes_interleaved_with_the_same_pairs() {
    let mut architecture = tiny(Family::Llama, RopeLayout::Half);
    architecture.head_width = 8;
    architecture.rope.dims = 6;
    architecture.qkv_bias = true;
    let source = open("m.gguf", export(&architecture, ElementType::F32)).unwrap();
    assert_eq!(source.architecture().rope.layout, RopeLayout::Interleaved);
    for (role, values) in read_all(source.as_ref()).unwrap() {
        use shoal_model::LinearPart::{Key, Query};
        let columns = source.tensor(role).unwrap().columns;
        let expected = |row: usize, column| match role {
            TensorRole::Linear(_, Query | Key) => {
                // Pair p of a head is (p, p + 3) in one layout, (2p, 2p + 1) in the other.
                let (head, element) = (row / 8, row % 8);
                let element = [0, 3, 1, 4, 2, 5, 6, 7][element];
                weight(role, 8 * head + element, column)
            }
            _ => weight(role, row, column),
        };
        if matches!(role, TensorRole::Bias(..)) {
            continue;
        }
        for (i, &value) in values.iter().enumerate() {
            assert_eq!(value, expected(i / columns, i % columns), "{role:?} {i}");
        }
    }
    // Elements of a bias move like rows.
    let bias = TensorRole::Bias(0, shoal_model::LinearPart::Key);
    let moved: Vec<_> = (8..16).map(|row| export_row(&architecture, bias, row)).collect();
    assert_eq!(moved, [8, 11, 9, 12, 10, 13, 14, 15]);
}

#[test]
fn models_that_readers_would_misunderstand_are_not_written() {
    let refused = |architecture: &Architecture| {
        let metadata = export_metadata("", architecture, ElementType::F16, &vocabulary(), None);
        metadata.unwrap_err().to_string()
    };
    let qwen = tiny(Family::Qwen2, RopeLayout::Interleaved);
    assert_eq!(refused(&qwen), "\"rope.layout\": qwen2 and qwen3 rotate halves");
    let mut llama = tiny(Family::Llama, RopeLayout::Interleaved);
    llama.qk_norm = true;
    assert!(refused(&llama).starts_with("\"qk_norm\": "));
}

fn plan(name: &str, element: ElementType) -> TensorPlan {
    TensorPlan { name: name.to_owned(), rows: 3, columns: 2, element }
}

#[test]
fn plans_and_rows_that_break_a_rule_are_refused() {
    type Metadata = Vec<(String, MetadataValue)>;
    let refused = |metadata: Metadata, tensors: Vec<TensorPlan>| {
        let writer = GgufWriter::try_new(Vec::new(), &metadata, tensors);
        writer.unwrap_err().to_string()
    };
    let entry = |key: &str| (key.to_owned(), MetadataValue::U32(1));
    let f16 = ElementType::F16;
    assert_eq!(refused(vec![entry("")], vec![]), "\"\": a key has 1 to 65535 bytes");
    let twice = vec![entry("k"), entry("k")];
    assert_eq!(refused(twice, vec![]), "\"k\": a key occurs once");
    let twice = vec![plan("t", f16), plan("t", f16)];
    assert_eq!(refused(vec![], twice), "\"t\": a tensor name occurs once");
    let long = vec![plan(&"t".repeat(64), f16)];
    assert!(refused(vec![], long).ends_with("a tensor name has at most 63 bytes"));
    let mut empty = plan("t", f16);
    empty.rows = 0;
    assert_eq!(refused(vec![], vec![empty]), "\"t\": a tensor has rows and columns");
    let quantised = vec![plan("t", ElementType::Q8_0)];
    let message = "tensor \"t\": Q8_0 is not written, only F32 and F16";
    assert_eq!(refused(vec![], quantised), message);

    let mut writer = GgufWriter::try_new(Vec::new(), &[], vec![plan("t", f16)]).unwrap();
    let message = "tensor \"t\": 3 elements given, 6 are left, rows have 2";
    assert_eq!(writer.write_rows(&[0.0; 3]).unwrap_err().to_string(), message);
    writer.write_rows(&[1.0, 2.0]).unwrap();
    let error = writer.write_rows(&[0.0, 65_520.0, 0.0, 0.0]).unwrap_err();
    let message = "tensor \"t\": row 1, column 1: 65520 does not fit F16";
    assert_eq!(error.to_string(), message);
    assert!(matches!(writer.finish().unwrap_err(), GgufWriteError::Rows { left: 4, .. }));
    let mut writer =
        GgufWriter::try_new(Vec::new(), &[], vec![plan("t", ElementType::F32)]).unwrap();
    assert!(writer.write_rows(&[f32::INFINITY, 0.0]).is_err());
    writer.write_rows(&[65_520.0; 6]).unwrap();
    assert!(writer.write_rows(&[0.0; 2]).is_err());
    writer.finish().unwrap();
}

#[test]
fn an_output_that_fails_is_reported() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let room = bytes.len().min(self.0);
            self.0 -= room;
            Ok(room)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let header = GgufWriter::try_new(Full(10), &[], vec![]).map(|_| ());
    assert!(matches!(header, Err(GgufWriteError::Io(_))));
    let plans = vec![plan("t", ElementType::F32)];
    let mut writer = GgufWriter::try_new(Full(100), &[], plans).unwrap();
    assert!(matches!(writer.write_rows(&[0.0; 6]), Err(GgufWriteError::Io(_))));
}
