//! `models/README.md` agrees with the code: every configuration with its pinned count, every mutant
//! with its law.

use std::fs;

use snapline_models::configs;
use snapline_models::mutants::Mutant;

#[test]
fn the_tables_are_those_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(path).expect("models/README.md is there");
    let row = |first: &str| {
        let start = format!("| {first} ");
        let row = readme.lines().find(|line| line.starts_with(&start));
        row.unwrap_or_else(|| {
            panic!("models/README.md has no row for `{first}`: print the tables anew")
        })
    };
    for config in configs::all() {
        let row = row(&config.scenario.name);
        let states =
            config.states.unwrap_or_else(|| panic!("`{}` is not pinned", config.scenario.name));
        assert!(row.contains(&format!("| {states} |")), "{states} is not in: {row}");
        assert!(row.contains(config.shows) && row.contains(config.cannot), "{row}");
    }
    for mutant in Mutant::all() {
        let row = row(mutant.name());
        let law = format!("L{} {}", mutant.law.number(), mutant.law.name());
        assert!(row.contains(&law) && row.contains(mutant.rule.sentence()), "{law}: {row}");
    }
}
