//! The guide knows every room of the house, and the front door leads to it.

use super::Complaint;
use super::tree::Tree;

/// What newcomers read first.
const README: &str = "README.md";
/// Its code map has a line for every folder.
const GUIDE: &str = "ARCHITECTURE.md";

/// Complains of folders in the root that the guide does not mention, and of a missing guide.
pub(super) fn check(tree: &Tree) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    if !tree.text(README).is_some_and(|text| text.contains(GUIDE)) {
        complaints.push(Complaint::new(README, format_args!("does not lead to {GUIDE}")));
    }
    let guide = tree.text(GUIDE).unwrap_or_default();
    for folder in tree.folders() {
        if !guide.contains(&format!("{folder}/")) {
            complaints.push(Complaint::new(GUIDE, format_args!("does not mention {folder}/")));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(readme: &str, guide: &str) -> Vec<Complaint> {
        check(&Tree::of(&[
            (README, readme),
            (GUIDE, guide),
            ("a/x", ""),
            ("b/y", ""),
            (".c/z", ""),
        ]))
    }

    #[test]
    fn the_guide_mentions_every_folder() {
        assert_eq!(complaints("see ARCHITECTURE.md", "a/ and b/"), []);
        let missing = Complaint::new(GUIDE, "does not mention b/");
        assert_eq!(complaints("see ARCHITECTURE.md", "a/"), [missing]);
    }

    #[test]
    fn the_front_door_leads_to_the_guide() {
        assert_eq!(complaints("welcome", "a/ and b/").len(), 1);
    }
}
