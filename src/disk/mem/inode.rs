//! A file without its names. The trees of names, waiting changes and open handles share it; when the last of
//! them lets go, its space is free again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::content::Content;

pub(super) struct Inode {
    content: Mutex<Content>,
    /// Pages in use on the whole disk.
    page_count: Arc<AtomicU64>,
}

impl Inode {
    pub(super) fn new(content: Content, page_count: &Arc<AtomicU64>) -> Arc<Self> {
        page_count.fetch_add(content.page_count(), Ordering::Relaxed);
        Arc::new(Self { content: Mutex::new(content), page_count: page_count.clone() })
    }

    pub(super) fn look<R>(&self, look: impl FnOnce(&Content) -> R) -> R {
        look(&self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Content) -> R) -> R {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let before = content.page_count();
        let result = change(&mut content);
        self.page_count.fetch_add(content.page_count().wrapping_sub(before), Ordering::Relaxed);
        result
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.page_count.fetch_sub(self.look(Content::page_count), Ordering::Relaxed);
    }
}
