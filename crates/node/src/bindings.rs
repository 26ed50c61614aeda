//! Which path each file's id stands for. Paths are kept by folder: a log that is deleted has its folder renamed, and what
//! that costs must not grow with the number of other logs.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moldau_base::disk::FileId;

use crate::ids::IdMap;

/// What an id is bound to.
pub struct Binding {
    folder: u64,
    name: OsString,
    /// The log directory.
    pub dir: u16,
    /// A write makes it if it is missing.
    pub create: bool,
    /// The file has been made by this run and its directory entry is not durable yet.
    pub fresh: bool,
    /// Its descriptor, if it has one now.
    pub open: Option<Arc<File>>,
    /// When it was used last, by the clock of its shard's files.
    pub used: u64,
}

/// A directory in which files are bound.
struct Folder {
    path: PathBuf,
    files: Vec<FileId>,
}

/// The bindings of a shard.
#[derive(Default)]
pub struct Bindings {
    files: IdMap<FileId, Binding>,
    folders: IdMap<u64, Folder>,
    by_path: HashMap<PathBuf, u64>,
    next_folder: u64,
}

impl Bindings {
    /// Binds an id, and gives back what it was bound to before.
    pub fn bind(&mut self, file: FileId, path: &Path, dir: u16, create: bool) -> Option<Binding> {
        let before = self.remove(file);
        let name = path.file_name().unwrap_or_default().to_owned();
        let folder = self.folder(path.parent().unwrap_or(Path::new("")));
        self.folders.entry(folder).and_modify(|folder| folder.files.push(file));
        let binding = Binding { folder, name, dir, create, fresh: false, open: None, used: 0 };
        self.files.insert(file, binding);
        before
    }

    fn folder(&mut self, path: &Path) -> u64 {
        if let Some(known) = self.by_path.get(path) {
            return *known;
        }
        let id = self.next_folder;
        self.next_folder += 1;
        self.folders.insert(id, Folder { path: path.to_owned(), files: Vec::new() });
        self.by_path.insert(path.to_owned(), id);
        id
    }

    /// What the id is bound to.
    pub fn get(&self, file: FileId) -> Option<&Binding> {
        self.files.get(&file)
    }

    /// The same.
    pub fn get_mut(&mut self, file: FileId) -> Option<&mut Binding> {
        self.files.get_mut(&file)
    }

    /// Where the file is.
    pub fn path(&self, file: FileId) -> Option<PathBuf> {
        let binding = self.files.get(&file)?;
        Some(self.folders.get(&binding.folder)?.path.join(&binding.name))
    }

    /// Forgets an id.
    pub fn remove(&mut self, file: FileId) -> Option<Binding> {
        let binding = self.files.remove(&file)?;
        if let Some(folder) = self.folders.get_mut(&binding.folder) {
            folder.files.retain(|other| *other != file);
            if folder.files.is_empty() {
                self.forget(binding.folder);
            }
        }
        Some(binding)
    }

    fn forget(&mut self, id: u64) {
        let Some(folder) = self.folders.remove(&id) else { return };
        // Another one may have come under its path.
        if self.by_path.get(&folder.path) == Some(&id) {
            self.by_path.remove(&folder.path);
        }
    }

    /// A file, or a folder with all that it holds, has another path now. No folder of files has folders in it.
    pub fn moved(&mut self, from: &Path, to: &Path) {
        if let Some(id) = self.by_path.remove(from) {
            self.by_path.insert(to.to_owned(), id);
            if let Some(folder) = self.folders.get_mut(&id) {
                folder.path = to.to_owned();
            }
        }
        for file in self.named(from) {
            if let Some(mut binding) = self.remove(file) {
                binding.folder = self.folder(to.parent().unwrap_or(Path::new("")));
                binding.name = to.file_name().unwrap_or_default().to_owned();
                self.folders.entry(binding.folder).and_modify(|folder| folder.files.push(file));
                self.files.insert(file, binding);
            }
        }
    }

    /// The ids of the file with this path.
    fn named(&self, path: &Path) -> Vec<FileId> {
        let folder = path.parent().and_then(|parent| self.folders.get(self.by_path.get(parent)?));
        let name: &OsStr = path.file_name().unwrap_or_default();
        let is_it = |file: &FileId| self.files.get(file).is_some_and(|binding| binding.name == name);
        folder.into_iter().flat_map(|folder| &folder.files).copied().filter(is_it).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(files: &[(u64, &str)]) -> Bindings {
        let mut bindings = Bindings::default();
        for (id, path) in files {
            bindings.bind(FileId(*id), Path::new(path), 0, true);
        }
        bindings
    }

    fn path(bindings: &Bindings, id: u64) -> String {
        bindings.path(FileId(id)).unwrap().to_string_lossy().into_owned()
    }

    #[test]
    fn files_follow_their_folder_and_nothing_else_does() {
        let mut bindings = bound(&[(1, "/d/t-1/0.log"), (2, "/d/t-1/0.index"), (3, "/d/t-10/0.log")]);
        bindings.moved(Path::new("/d/t-1"), Path::new("/d/t-1.x-delete"));
        assert_eq!(path(&bindings, 1), "/d/t-1.x-delete/0.log");
        assert_eq!(path(&bindings, 2), "/d/t-1.x-delete/0.index");
        assert_eq!(path(&bindings, 3), "/d/t-10/0.log");
    }

    #[test]
    fn what_comes_under_an_old_path_is_another_folder() {
        let mut bindings = bound(&[(1, "/d/t-1/0.log")]);
        bindings.moved(Path::new("/d/t-1"), Path::new("/d/t-1.x-delete"));
        bindings.bind(FileId(2), Path::new("/d/t-1/0.log"), 0, true);
        bindings.remove(FileId(1));
        assert_eq!(path(&bindings, 2), "/d/t-1/0.log");
        bindings.moved(Path::new("/d/t-1/0.log"), Path::new("/d/t-1/0.log.deleted"));
        assert_eq!(path(&bindings, 2), "/d/t-1/0.log.deleted");
    }

    #[test]
    fn nothing_is_kept_of_what_is_closed() {
        let mut bindings = bound(&[(1, "/d/t-1/0.log"), (2, "/d/t-2/0.log")]);
        bindings.moved(Path::new("/d/t-1"), Path::new("/d/t-1.x-delete"));
        bindings.bind(FileId(2), Path::new("/d/t-3/0.log"), 0, false);
        for id in [1, 2] {
            bindings.remove(FileId(id)).unwrap();
        }
        assert!(bindings.files.is_empty() && bindings.folders.is_empty() && bindings.by_path.is_empty());
    }
}
