//! What the disk could do at most, on the same file system: appends with a flush each, and one long write.
use super::latency::{Latencies, Summary};
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The disk's limits.
#[derive(Debug, Clone, Serialize)]
pub struct DiskLimits {
    /// Appending one payload and flushing it (`fdatasync`), one at a time, into a file written before.
    pub append_sync: Summary,
    /// How many a second.
    pub append_sync_per_second: f64,
    /// One long write in 1 MiB pieces with one flush at its end, in bytes a second.
    pub write_bytes_per_second: f64,
}

const FILE_BYTES: u64 = 32 << 20;
const LONG_WRITE_BYTES: u64 = 512 << 20;

/// Measures the disk under `dir` for about `time`.
pub fn measure(dir: &Path, payload_bytes: usize, time: Duration) -> Result<DiskLimits> {
    let path = dir.join("limits");
    let measured = append_sync(&path, payload_bytes, time).and_then(|appends| {
        let seconds = appends.1.as_secs_f64();
        Ok(DiskLimits {
            append_sync_per_second: appends.0.count() as f64 / seconds,
            append_sync: appends.0.summary(),
            write_bytes_per_second: long_write(&path, time)?,
        })
    });
    // The file is in our scratch directory, which goes with it.
    drop(std::fs::remove_file(&path));
    measured.with_context(|| format!("measuring the disk in {}", dir.display()))
}

fn append_sync(path: &Path, payload_bytes: usize, time: Duration) -> Result<(Latencies, Duration)> {
    let file = File::create(path)?;
    let zeros = vec![0u8; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    let payload = super::load::payload(payload_bytes, 1);
    let (mut latencies, mut at, started) = (Latencies::new(), 0u64, Instant::now());
    while started.elapsed() < time {
        if at + payload.len() as u64 > FILE_BYTES {
            at = 0;
        }
        let one = Instant::now();
        file.write_all_at(&payload, at)?;
        file.sync_data()?;
        latencies.add(one.elapsed());
        at += payload.len() as u64;
    }
    Ok((latencies, started.elapsed()))
}

fn long_write(path: &Path, time: Duration) -> Result<f64> {
    let mut file = File::create(path)?;
    let piece = super::load::payload(1 << 20, 2);
    let (mut written, started) = (0u64, Instant::now());
    while written < LONG_WRITE_BYTES && started.elapsed() < time {
        file.write_all(&piece)?;
        written += piece.len() as u64;
    }
    file.sync_data()?;
    Ok(written as f64 / started.elapsed().as_secs_f64())
}
