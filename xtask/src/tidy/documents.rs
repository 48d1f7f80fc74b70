//! README and ARCHITECTURE know every room of the house.

use super::Complaint;
use super::tree::Tree;

const GUIDES: &[&str] = &["README.md", "ARCHITECTURE.md"];

/// Complains of folders in the root that a guide does not mention, and of missing guides.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for guide in GUIDES {
        let Some(text) = tree.text(guide) else {
            complaints.push(Complaint::new(guide, "is missing"));
            continue;
        };
        for folder in tree.folders() {
            if !text.contains(&format!("{folder}/")) {
                complaints.push(Complaint::new(guide, format_args!("does not mention {folder}/")));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guide_mentions_every_folder() {
        let tree = |readme| {
            Tree::of(&[
                ("README.md", readme),
                ("ARCHITECTURE.md", "a/ b/"),
                ("a/x", ""),
                ("b/y", ""),
            ])
        };
        assert_eq!(check(&tree("a/ and b/")), []);
        assert_eq!(check(&tree("a/")), [Complaint::new("README.md", "does not mention b/")]);
    }
}
