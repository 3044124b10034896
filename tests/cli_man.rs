//! The pages in `man/` are those that the grammar makes.

use std::{collections::BTreeMap, fs, path::Path};

#[test]
fn the_committed_pages_are_fresh() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let fresh: BTreeMap<String, String> = rackctl::cli::man::pages().unwrap().into_iter().collect();
    let mut committed = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        committed.insert(name, fs::read_to_string(&path).unwrap());
    }
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&fresh), "run: cargo run -- man --dir man");
    for (name, text) in &fresh {
        assert!(committed.get(name) == Some(text), "man/{name} is stale; run: cargo run -- man --dir man");
    }
    assert!(fresh.len() > 25 && fresh.contains_key("rackctl.1") && fresh.contains_key("rackctl-lab-create.1"));
    for (name, text) in &fresh {
        assert!(!text.contains("__"), "{name} shows a hidden verb");
    }
}
