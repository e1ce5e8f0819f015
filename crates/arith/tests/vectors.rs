//! The committed vectors are what the reference gives: its results cannot change unseen.

#[test]
fn the_reference_gives_the_committed_vectors() {
    let mut names = Vec::new();
    for (name, made) in shoal_vectors::all() {
        let path = shoal_vectors::folder().join(name);
        let committed = std::fs::read_to_string(path).expect("vectors are committed");
        let line = made.lines().zip(committed.lines()).position(|(made, is)| made != is);
        assert_eq!(line, None, "{name}: this line differs, counted from 0");
        assert!(made == committed, "{name}: one has more lines");
        names.push(name.to_owned());
    }
    let folder = std::fs::read_dir(shoal_vectors::folder()).expect("vectors are committed");
    let files =
        folder.map(|entry| entry.expect("a file").file_name().into_string().expect("a name"));
    let mut files: Vec<String> = files.filter(|name| name != "DIGESTS").collect();
    files.sort();
    assert_eq!(files, names, "every file is made, and in the order of the names");
}
