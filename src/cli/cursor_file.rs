//! A reader's position in a file: read at the start, replaced as a whole, and beside no file of anybody else.
use crate::base::Cursor;
use anyhow::{Context as _, Result};
use std::io::Write as _;
use std::path::Path;

/// The position that a file says; `None` where there is no such file.
pub fn read_cursor(path: &Path) -> Result<Option<Cursor>> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let cursor = text.trim().parse().with_context(|| path.display().to_string())?;
            Ok(Some(cursor))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Keeps a position: replaces the file as a whole: what stands there after a crash is the old position or the new one.
pub fn write_cursor(path: &Path, cursor: &Cursor) -> Result<()> {
    // A name that is no one else's, be it another worker's or a file that somebody has there.
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = std::fs::File::create(&new).and_then(|mut file| {
        file.write_all(format!("{cursor}\n").as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&new, path)).with_context(|| {
        drop(std::fs::remove_file(&new));
        path.display().to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, TopicId};

    #[test]
    fn a_cursor_file_keeps_the_position_and_a_broken_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jobs.cursor");
        assert_eq!(read_cursor(&path).unwrap(), None);
        let cursor = Cursor::start(ClusterId([1; 16]), TopicId([2; 16]));
        write_cursor(&path, &cursor).unwrap();
        assert_eq!(read_cursor(&path).unwrap(), Some(cursor));
        std::fs::write(&path, "cv1_broken").unwrap();
        assert!(read_cursor(&path).is_err());
    }
}
