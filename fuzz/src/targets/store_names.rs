//! What users type: names of packages, references to models.

use shoal_store::PackageName;
use shoal_store::fetch::ModelReference;

use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "store_names",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "Llama-3.2-1B:i4",
        "hf:owner/repo@main/sub/model-Q4_0.gguf",
        "hf:a/b",
        "https://example.org/models/m%20y.gguf?download=true",
        "http://127.0.0.1:8080/a/../b",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(name) = text.parse::<PackageName>() {
        assert_eq!(name.as_str(), text);
        assert!(!text.contains(['/', '\\', '\0']) && !text.starts_with('.'), "a name is a file");
    }
    let like = PackageName::like(text);
    assert_eq!(like.as_str().parse(), Ok(like.clone()), "what is like a name is one");
    if let Ok(reference) = text.parse::<ModelReference>() {
        let again: ModelReference = reference.to_string().parse().expect("it is read again");
        assert_eq!(again.to_string(), reference.to_string());
        let name = reference.name();
        assert_eq!(name.as_str().parse(), Ok(name.clone()));
    }
}
