//! The files that the rules are about: those that git tracks, or would.

use std::process::Command;

use anyhow::Result;

use crate::process::output;
use crate::workspace::Workspace;

/// A text file.
pub(super) struct File {
    /// From the root, with slashes.
    pub(super) path: String,
    /// What is in it.
    pub(super) text: String,
}

impl File {
    /// Whether it is Rust.
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// All text files of the project.
pub(super) struct Tree(Vec<File>);

impl Tree {
    /// Asks git, and reads them.
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(&workspace.root);
        git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
        let listed = output(&mut git)?;
        let files = listed.lines().filter_map(|path| {
            // What is no text (a picture, say) or was just deleted has no lines to check.
            let text = std::fs::read_to_string(workspace.root.join(path)).ok()?;
            Some(File { path: path.to_owned(), text })
        });
        Ok(Self(files.collect()))
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let owned = files
            .iter()
            .map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() });
        Self(owned.collect())
    }

    /// Every file.
    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.0.iter()
    }

    /// The Rust files.
    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files().filter(|file| file.is_rust())
    }

    /// The text of one file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// Names of the folders in the root, without hidden ones.
    pub(super) fn folders(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .files()
            .filter_map(|file| Some(file.path.split_once('/')?.0))
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
