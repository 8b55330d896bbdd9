//! Folders, files and their names. A name is durable once its folder was synced; until then a power cut may take
//! or leave each change of names by itself, but a rename is one change.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use nix::libc;

use super::Survival;
use super::contents::Contents;
use super::random::Random;

pub(super) type NodeId = u64;

const ROOT: NodeId = 0;

#[derive(Debug, Clone)]
enum Node {
    Folder(Folder),
    File(File),
}

#[derive(Debug, Clone, Default)]
struct Folder {
    live: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
}

/// One file.
#[derive(Debug, Clone, Default)]
pub(super) struct File {
    pub(super) contents: Contents,
    pub(super) modified_ms: i64,
}

/// Names that change together: in which folder, which name, and what it means from then on.
type Change = Vec<(NodeId, String, Option<NodeId>)>;

/// A whole file system; clones share what they have in common.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Arc<Node>>,
    next: NodeId,
    /// Changes of names that no sync of their folder has covered, oldest first.
    unsynced: Vec<Arc<Change>>,
}

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn names(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Arc::new(Node::Folder(Folder::default()));
        Self { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1, unsynced: Vec::new() }
    }

    fn folder(&self, id: NodeId) -> io::Result<&Folder> {
        match self.nodes.get(&id).map(|node| &**node) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&File> {
        match self.nodes.get(&id).map(|node| &**node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder(_)) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut File> {
        match self.nodes.get_mut(&id).map(Arc::make_mut) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder(_)) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    /// What `path` names; `None` where its folder is there and the name is not, or no such folder is.
    pub(super) fn find(&self, path: &Path) -> io::Result<Option<NodeId>> {
        let mut id = ROOT;
        for name in names(path) {
            match self.folder(id)?.live.get(name) {
                Some(next) => id = *next,
                None => return Ok(None),
            }
        }
        Ok(Some(id))
    }

    fn existing(&self, path: &Path) -> io::Result<NodeId> {
        self.find(path)?.ok_or_else(|| errno(libc::ENOENT))
    }

    fn parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = names(path).last().ok_or_else(|| errno(libc::EINVAL))?;
        let folder = self.existing(path.parent().unwrap_or(Path::new("/")))?;
        self.folder(folder)?;
        Ok((folder, name.to_owned()))
    }

    pub(super) fn is_folder(&self, id: NodeId) -> bool {
        self.folder(id).is_ok()
    }

    /// Names in a folder, and which of them are folders.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<(String, bool)>> {
        let folder = self.folder(self.existing(path)?)?;
        Ok(folder.live.iter().map(|(name, id)| (name.clone(), self.is_folder(*id))).collect())
    }

    fn apply(&mut self, change: Change) {
        for (folder, name, target) in &change {
            let Some(Node::Folder(folder)) = self.nodes.get_mut(folder).map(Arc::make_mut) else { continue };
            match target {
                Some(id) => drop(folder.live.insert(name.clone(), *id)),
                None => drop(folder.live.remove(name)),
            }
        }
        self.unsynced.push(Arc::new(change));
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (folder, name) = self.parent(path)?;
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Arc::new(node));
        self.apply(vec![(folder, name, Some(id))]);
        Ok(id)
    }

    pub(super) fn create_file(&mut self, path: &Path, now_ms: i64) -> io::Result<NodeId> {
        self.add(path, Node::File(File { contents: Contents::default(), modified_ms: now_ms }))
    }

    pub(super) fn create_folder(&mut self, path: &Path) -> io::Result<NodeId> {
        self.add(path, Node::Folder(Folder::default()))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.existing(from)?;
        let ((old_folder, old_name), (folder, name)) = (self.parent(from)?, self.parent(to)?);
        if let Some(there) = self.find(to)?
            && self.folder(there).is_ok_and(|there| !there.live.is_empty())
        {
            return Err(errno(libc::ENOTEMPTY));
        }
        self.apply(vec![(old_folder, old_name, None), (folder, name, Some(id))]);
        Ok(())
    }

    /// Takes one name away; a folder's must be empty.
    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let id = self.existing(path)?;
        if self.folder(id).is_ok_and(|folder| !folder.live.is_empty()) {
            return Err(errno(libc::ENOTEMPTY));
        }
        let (folder, name) = self.parent(path)?;
        self.apply(vec![(folder, name, None)]);
        Ok(())
    }

    pub(super) fn sync_folder(&mut self, path: &Path) -> io::Result<()> {
        let id = self.existing(path)?;
        self.folder(id)?;
        if let Some(Node::Folder(folder)) = self.nodes.get_mut(&id).map(Arc::make_mut) {
            folder.durable = folder.live.clone();
        }
        self.forget_unsynced_names(id);
        Ok(())
    }

    /// What a failed sync of a folder does: its changes count as written, and are not.
    pub(super) fn lose_names(&mut self, path: &Path) -> io::Result<()> {
        let id = self.existing(path)?;
        self.forget_unsynced_names(id);
        Ok(())
    }

    fn forget_unsynced_names(&mut self, id: NodeId) {
        for change in &mut self.unsynced {
            if change.iter().any(|(folder, ..)| *folder == id) {
                Arc::make_mut(change).retain(|(folder, ..)| *folder != id);
            }
        }
        self.unsynced.retain(|change| !change.is_empty());
    }

    /// The file system after a power cut.
    pub(super) fn survive(&self, survival: Survival) -> Self {
        let mut random = Random::new(match survival {
            Survival::Torn(seed) | Survival::Seeded(seed) => seed,
            _ => 0,
        });
        let mut survivor = self.clone();
        survivor.unsynced.clear();
        for node in survivor.nodes.values_mut() {
            if let Node::Folder(folder) = Arc::make_mut(node) {
                folder.live = folder.durable.clone();
            }
        }
        for change in self.surviving_changes(survival, &mut random) {
            survivor.apply(change.as_ref().clone());
        }
        survivor.unsynced.clear();
        survivor.keep_reachable();
        for node in survivor.nodes.values_mut() {
            match Arc::make_mut(node) {
                Node::Folder(folder) => folder.durable = folder.live.clone(),
                Node::File(file) => file.contents = file.contents.survive(survival, &mut random),
            }
        }
        survivor
    }

    fn surviving_changes(&self, survival: Survival, random: &mut Random) -> Vec<Arc<Change>> {
        let all = &self.unsynced;
        match survival {
            Survival::Nothing | Survival::Contents => Vec::new(),
            Survival::Everything | Survival::Names | Survival::Torn(_) => all.clone(),
            // As a journal leaves them, or in any choice.
            Survival::Seeded(_) if random.one_in(3) => {
                all[..random.below(all.len() as u64 + 1) as usize].to_vec()
            }
            Survival::Seeded(_) => {
                let of = 2 + random.below(3);
                let keeps_most = random.one_in(2);
                all.iter().filter(|_| random.one_in(of) != keeps_most).cloned().collect()
            }
        }
    }

    fn keep_reachable(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut next = vec![ROOT];
        while let Some(id) = next.pop() {
            let Ok(folder) = self.folder(id) else { continue };
            let children: Vec<NodeId> = folder.live.values().copied().collect();
            next.extend(children.into_iter().filter(|child| reached.insert(*child)));
        }
        self.nodes.retain(|id, _| reached.contains(id));
    }
}
