//! Doing together what waits for one log directory's disk: a few syncs one after the other, each file and directory once; many by one
//! `syncfs`, because each single sync commits the journal of the file system by itself, which takes milliseconds.
//!
//! Where the whole is synced, so are files of others; that costs time, never safety. A failure of the whole is everybody's, and is never
//! followed by a success.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use moldau_base::disk::{Done, Fault};

use crate::background::{Asked, Durable, Sync};
use crate::files::failed;
use crate::fs::{self, Replacement, SINGLE_SYNCS};

/// The file system of a log directory, to be synced as a whole.
pub(crate) struct Whole {
    /// The directory, opened before anything is written: the system reports once for each descriptor that something could not be
    /// written. `None` where syncing the whole cannot be relied on.
    root: Option<File>,
    /// What it reported, for all that come after.
    fault: Option<Fault>,
}

impl Whole {
    pub(crate) fn of(dir: &Path) -> io::Result<Whole> {
        Ok(Whole { root: fs::synced_as_a_whole(dir)?, fault: None })
    }

    pub(crate) fn may_be_synced(&self) -> bool {
        self.root.is_some()
    }

    /// Whether it is to be used in place of so many single syncs.
    fn replaces(&self, syncs: usize) -> bool {
        self.root.is_some() && (syncs > SINGLE_SYNCS || self.fault.is_some())
    }

    /// Makes everything durable that was written before.
    fn sync(&mut self) -> Done {
        if let (None, Some(root)) = (&self.fault, &self.root) {
            self.fault = rustix::fs::syncfs(root).err().map(|error| Fault::from(&io::Error::from(error)));
        }
        self.fault.clone().map_or(Done::Ok, Done::Failed)
    }
}

/// Makes files and names durable.
pub(crate) fn sync_together(waiting: Vec<Sync>, whole: &mut Whole) {
    let (mut files, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut let_go = false;
    for Sync { what, .. } in &waiting {
        match what {
            Durable::File(file, fresh) => {
                files.insert(Arc::as_ptr(file));
                names.extend(fresh.iter().flat_map(|path| fs::directories_of(path)));
            }
            Durable::LetGo => let_go = true,
            Durable::Name(path) => names.extend(fs::directories_of(path)),
        }
    }
    if let_go || whole.replaces(files.len() + names.len()) {
        let end = whole.sync();
        waiting.iter().for_each(|sync| sync.asked.answer(end.clone()));
        return;
    }
    let (mut files, mut names) = (BTreeMap::new(), Names::default());
    for Sync { what, asked } in &waiting {
        asked.answer(match what {
            Durable::File(file, fresh) => {
                let sync = || done(file.sync_data());
                let end = files.entry(Arc::as_ptr(file)).or_insert_with(sync).clone();
                match fresh {
                    Some(path) if end == Done::Ok => names.sync(path),
                    _ => end,
                }
            }
            Durable::Name(path) => names.sync(path),
            Durable::LetGo => unreachable!("the whole was synced"),
        });
    }
}

/// Replacements of different files that wait to be made durable.
#[derive(Default)]
pub(crate) struct Replaced {
    waiting: Vec<(Asked, Replacement, Bytes)>,
    paths: BTreeSet<PathBuf>,
}

impl Replaced {
    /// Adds one; those before are finished first if one of them replaces the same file.
    pub(crate) fn add(&mut self, asked: Asked, replacement: Replacement, data: Bytes, whole: &mut Whole) {
        if !self.paths.insert(replacement.path().to_owned()) {
            self.finish(whole);
            self.paths.insert(replacement.path().to_owned());
        }
        self.waiting.push((asked, replacement, data));
    }

    /// Carries them out. After a crash each file has its old or its new content, whole.
    pub(crate) fn finish(&mut self, whole: &mut Whole) {
        self.paths.clear();
        let waiting = std::mem::take(&mut self.waiting);
        if !whole.replaces(2 * waiting.len()) {
            waiting.iter().for_each(|(asked, file, data)| asked.answer(done(file.finish(data))));
            return;
        }
        let written = waiting.into_iter().filter_map(|(asked, file, data)| {
            keep(asked, file.write_unsynced(&data)).map(|asked| (asked, file))
        });
        let written: Vec<(Asked, Replacement)> = written.collect();
        if let Done::Failed(fault) = whole.sync() {
            for (asked, file) in written {
                file.abandon();
                asked.answer(Done::Failed(fault.clone()));
            }
            return;
        }
        let renamed = written.into_iter().filter_map(|(asked, file)| keep(asked, file.rename()));
        let renamed: Vec<Asked> = renamed.collect();
        let end = whole.sync();
        renamed.iter().for_each(|asked| asked.answer(end.clone()));
    }
}

/// Goes on with what succeeded, and answers what did not.
fn keep(asked: Asked, result: io::Result<()>) -> Option<Asked> {
    match result {
        Ok(()) => Some(asked),
        Err(error) => {
            asked.answer(failed(&error));
            None
        }
    }
}

/// Directories that are synced once each.
#[derive(Default)]
struct Names(BTreeMap<PathBuf, Done>);

impl Names {
    /// Makes the name of a file or directory durable.
    fn sync(&mut self, path: &Path) -> Done {
        for directory in fs::directories_of(path) {
            let sync = || done(fs::sync_directory(directory));
            let end = self.0.entry(directory.to_owned()).or_insert_with(sync);
            if *end != Done::Ok {
                return end.clone();
            }
        }
        Done::Ok
    }
}

fn done(result: io::Result<()>) -> Done {
    match result {
        Ok(()) => Done::Ok,
        Err(error) => failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use moldau_base::disk::OpId;
    use moldau_broker::Input;

    use super::*;
    use crate::mailbox::{Item, Mailbox};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("moldau-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn asked(back: &Arc<Mailbox>, seq: u32) -> Asked {
        Asked::new(OpId { owner: 0, seq }, back.clone())
    }

    fn answers(back: &Mailbox) -> BTreeMap<u32, Done> {
        let mut items = VecDeque::new();
        back.take(&mut items);
        let answer = |item| match item {
            Item::Input(Input::DiskDone { op, done }) => (op.seq, done),
            _ => panic!("something else was told"),
        };
        items.into_iter().map(answer).collect()
    }

    fn broken(dir: &Path) -> Whole {
        Whole { root: Some(File::open(dir).unwrap()), fault: Some(Fault::Io("broken".to_owned())) }
    }

    #[test]
    fn of_many_replacements_each_is_whole_and_the_last_of_a_file_stays() {
        let dir = Scratch::new("replaced");
        for whole in [Whole { root: None, fault: None }, Whole::of(&dir.0).unwrap()] {
            let (back, mut whole, mut replaced) = (Arc::default(), whole, Replaced::default());
            let file = |place: u32| dir.0.join(format!("t-{place}/file"));
            for seq in 0..60 {
                let replacement = Replacement::begin(&file(seq % 40)).unwrap();
                replaced.add(asked(&back, seq), replacement, seq.to_string().into(), &mut whole);
            }
            replaced.finish(&mut whole);
            assert_eq!(answers(&back), (0..60).map(|seq| (seq, Done::Ok)).collect());
            for place in 0..40 {
                let last = if place < 20 { place + 40 } else { place };
                assert_eq!(std::fs::read_to_string(file(place)).unwrap(), last.to_string());
                assert_eq!(std::fs::read_dir(dir.0.join(format!("t-{place}"))).unwrap().count(), 1);
            }
        }
    }

    #[test]
    fn what_cannot_be_done_does_not_take_the_others_along() {
        let dir = Scratch::new("some");
        let (back, mut whole, mut replaced) =
            (Arc::default(), Whole::of(&dir.0).unwrap(), Replaced::default());
        for seq in 0..40 {
            let replacement = Replacement::begin(&dir.0.join(format!("t-{seq}/file"))).unwrap();
            replaced.add(asked(&back, seq), replacement, Bytes::from_static(b"new"), &mut whole);
        }
        std::fs::remove_dir(dir.0.join("t-7")).unwrap();
        replaced.finish(&mut whole);
        let expected = |seq| (seq, if seq == 7 { Done::Failed(Fault::Missing) } else { Done::Ok });
        assert_eq!(answers(&back), (0..40).map(expected).collect());
    }

    #[test]
    fn nothing_succeeds_once_the_whole_has_failed() {
        let dir = Scratch::new("failed");
        let (back, mut whole) = (Arc::default(), broken(&dir.0));
        let path = dir.0.join("file");
        let file = Durable::File(Arc::new(File::create(&path).unwrap()), Some(path.clone()));
        let sync = |what, seq| Sync { what, asked: asked(&back, seq) };
        sync_together(vec![sync(file, 0), sync(Durable::Name(path.clone()), 2)], &mut whole);
        let mut replaced = Replaced::default();
        replaced.add(
            asked(&back, 1),
            Replacement::begin(&path).unwrap(),
            Bytes::from_static(b"new"),
            &mut whole,
        );
        replaced.finish(&mut whole);
        let failed = Done::Failed(Fault::Io("broken".to_owned()));
        assert_eq!(answers(&back), (0..3).map(|seq| (seq, failed.clone())).collect());
        assert_eq!(std::fs::read(&path).unwrap(), b"", "nothing was replaced");
        assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 1, "what was written beside is gone");
    }

    #[test]
    fn syncs_without_a_descriptor_are_answered() {
        let dir = Scratch::new("without");
        let mut whole = Whole::of(&dir.0).unwrap();
        if !whole.may_be_synced() {
            return;
        }
        let back = Arc::default();
        sync_together(vec![Sync { what: Durable::LetGo, asked: asked(&back, 3) }], &mut whole);
        assert_eq!(answers(&back), BTreeMap::from([(3, Done::Ok)]));
    }
}
