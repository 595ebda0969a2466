//! The shim: a small C library inside the nodes that makes their disk and clock misbehave.
//!
//! It is compiled when a bed needs it, so that nothing but a C compiler is asked for, and only
//! then. A node and its control file meet in shared memory: a change takes effect at once.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const SOURCE: &str = include_str!("../../shim/shim.c");

// Offsets in `struct control`.
const FAIL_SYNCS: u64 = 0;
const SLOW_SYNC_MS: u64 = 4;
const FULL: u64 = 8;
const CLOCK_OFFSET_NS: u64 = 16;
const COUNTS: u64 = 24;
const CONTROL_BYTES: u64 = 4096;

/// What the shim has done in a node's processes so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShimCounts {
    pub syncs: u64,
    pub failed_syncs: u64,
    pub slowed_syncs: u64,
    pub refused_writes: u64,
    /// Readings of the wall clock that were shifted.
    pub shifted_reads: u64,
}

/// The control file of one node's shim. What it says outlives the node's process.
#[derive(Debug)]
pub struct ShimControl {
    file: File,
    path: PathBuf,
}

/// Compiles the shim in `dir`.
///
/// # Errors
/// If there is no C compiler (`CC`, else `cc`), or it fails.
pub fn compile(dir: &Path) -> Result<PathBuf> {
    let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
    std::fs::write(&source, SOURCE).with_context(|| format!("write {}", source.display()))?;
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut command = Command::new(&compiler);
    command.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let output = command.output().with_context(|| format!("run the C compiler '{compiler}'"))?;
    if !output.status.success() {
        bail!("'{compiler}' cannot compile the shim: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(library)
}

impl ShimControl {
    /// A control file that asks for nothing.
    pub fn create(path: &Path) -> Result<ShimControl> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(true).read(true).write(true).open(path);
        let file = file.with_context(|| format!("create {}", path.display()))?;
        file.set_len(CONTROL_BYTES).with_context(|| format!("size {}", path.display()))?;
        Ok(ShimControl { file, path: path.to_path_buf() })
    }

    /// What a node needs in its environment: this file, the shim, and where its data is.
    pub fn environment(&self, library: &Path, data_dir: &Path) -> [(&'static str, PathBuf); 3] {
        [
            ("LD_PRELOAD", library.to_path_buf()),
            ("AQUEDUCT_SHIM_CONTROL", self.path.clone()),
            ("AQUEDUCT_SHIM_DIR", data_dir.to_path_buf()),
        ]
    }

    /// The next `count` syncs fail with EIO; `u32::MAX`: all, until told otherwise.
    pub fn fail_syncs(&self, count: u32) -> Result<()> {
        self.write(FAIL_SYNCS, &count.to_ne_bytes())
    }

    /// Each sync takes so many milliseconds longer.
    pub fn slow_syncs(&self, ms: u32) -> Result<()> {
        self.write(SLOW_SYNC_MS, &ms.to_ne_bytes())
    }

    /// Whether writes to the node's data fail with ENOSPC.
    pub fn fill_disk(&self, full: bool) -> Result<()> {
        self.write(FULL, &u32::from(full).to_ne_bytes())
    }

    /// Shifts the wall clock by so many milliseconds, against the machine's.
    pub fn shift_clock(&self, ms: i64) -> Result<()> {
        self.write(CLOCK_OFFSET_NS, &ms.saturating_mul(1_000_000).to_ne_bytes())
    }

    /// Nothing is spoilt any more.
    pub fn reset(&self) -> Result<()> {
        self.write(0, &[0; COUNTS as usize])
    }

    /// What has happened so far.
    pub fn counts(&self) -> Result<ShimCounts> {
        let mut counts = [0; 5];
        for (place, count) in counts.iter_mut().enumerate() {
            let mut bytes = [0; 8];
            let at = COUNTS + 8 * place as u64;
            self.file.read_exact_at(&mut bytes, at).context("read the shim's counters")?;
            *count = u64::from_ne_bytes(bytes);
        }
        let [syncs, failed_syncs, slowed_syncs, refused_writes, shifted_reads] = counts;
        Ok(ShimCounts { syncs, failed_syncs, slowed_syncs, refused_writes, shifted_reads })
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, at).context("write the shim's control file")
    }
}
