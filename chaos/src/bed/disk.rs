//! What a node's data lies on: it can lose power and be full.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::ioctl::{Opcode, Setter, ioctl};
use rustix::mount::{UnmountFlags, unmount};

use super::options::DiskKind;

/// `FS_IOC_SHUTDOWN`, and its argument that says: write nothing more, not even the journal.
const SHUTDOWN: Opcode = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

/// Somebody may look at a file just when its disk is to be unmounted.
const UNMOUNT_WITHIN: Duration = Duration::from_secs(10);

/// Less than this is not worth filling.
const BLOCK_BYTES: u64 = 4096;

/// One node's disk. Clones mean the same disk.
#[derive(Debug, Clone)]
pub struct Disk {
    kind: DiskKind,
    /// Where it is mounted, if it is.
    root: PathBuf,
    image: PathBuf,
    bytes: u64,
}

impl Disk {
    /// Makes an empty disk at `root`, and mounts it. `Auto` must be decided before.
    pub fn create(kind: DiskKind, root: &Path, bytes: u64) -> Result<Disk> {
        let (root, image) = (root.to_path_buf(), root.with_extension("img"));
        std::fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
        let disk = Disk { kind, root, image, bytes };
        if kind == DiskKind::Ext4Images {
            let file = File::create(&disk.image).context("create a disk image")?;
            file.set_len(bytes).context("size a disk image")?;
            let options = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1", "-J", "size=8"];
            run(Command::new("mkfs.ext4").args(options).arg(&disk.image))?;
        }
        disk.mount()?;
        Ok(disk)
    }

    /// Where the node's data is.
    pub fn data_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where it is mounted, if it is.
    pub fn mount_point(&self) -> Option<&Path> {
        (self.kind != DiskKind::Plain).then_some(&*self.root)
    }

    /// Whether [`Disk::hold`] works.
    pub fn can_lose_power(&self) -> bool {
        self.kind == DiskKind::Ext4Images
    }

    /// Whether [`Disk::fill`] works.
    pub fn can_be_full(&self) -> bool {
        matches!(self.kind, DiskKind::Ext4Images | DiskKind::Tmpfs)
    }

    /// Gets hold of the disk to cut its power later, without any delay.
    pub fn hold(&self) -> Result<PowerSwitch> {
        if !self.can_lose_power() {
            bail!("{} has no power of its own to be cut", self.root.display());
        }
        Ok(PowerSwitch(File::open(&self.root).context("open the root of a disk")?))
    }

    /// Mounts the disk again after its power was cut; what was not synced is gone. Its processes
    /// must have ended.
    pub fn power_on(&self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Leaves only `leave` bytes free.
    pub fn fill(&self, leave: u64) -> Result<()> {
        if !self.can_be_full() {
            bail!("{} shares its space with others", self.root.display());
        }
        let ballast = File::create(self.ballast()).context("create the ballast")?;
        // Others write meanwhile, and the file system needs some for itself: by ever smaller steps.
        let (mut len, mut step) = (0, u64::MAX);
        while step >= BLOCK_BYTES {
            step = step.min(self.free_bytes()?.saturating_sub(leave));
            match fallocate(&ballast, FallocateFlags::empty(), len, step.max(1)) {
                Ok(()) => len += step,
                Err(rustix::io::Errno::NOSPC) => step /= 2,
                Err(error) => return Err(error).context("grow the ballast"),
            }
        }
        Ok(())
    }

    /// Gives back what [`Disk::fill`] took.
    pub fn relieve(&self) -> Result<()> {
        match std::fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Bytes that may still be written.
    pub fn free_bytes(&self) -> Result<u64> {
        let found = statvfs(&self.root).context("ask for free space")?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Removes all data, as if the disk had been replaced.
    pub fn wipe(&self) -> Result<()> {
        let dir = self.data_dir();
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("wipe {}", dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// Takes the disk out of the file system. Succeeds if it is not there.
    pub fn unmount(&self) -> Result<()> {
        match self.mount_point() {
            Some(root) => unmount_patiently(root),
            None => Ok(()),
        }
    }

    fn mount(&self) -> Result<()> {
        let root = &self.root;
        match self.kind {
            DiskKind::Ext4Images => run(Command::new("mount")
                .args(["-t", "ext4", "-o", "loop,noatime"])
                .arg(&self.image)
                .arg(root)),
            DiskKind::Tmpfs => run(Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={}", self.bytes), "aqueduct-bed"])
                .arg(root)),
            DiskKind::Plain | DiskKind::Auto => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }
}

/// A disk that can be cut off in no time. Must be dropped before the disk is unmounted.
pub struct PowerSwitch(File);

impl PowerSwitch {
    /// From now on nothing reaches the disk; what has not reached it yet is lost.
    pub fn cut(&self) -> Result<()> {
        // SAFETY: this call reads one u32, and touches no memory of ours.
        unsafe { ioctl(&self.0, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }
            .context("shut a file system down")
    }
}

/// The kind of disks that `Auto` means here, and why it is not images.
pub fn choose(kind: DiskKind, dir: &Path) -> Result<(DiskKind, Option<String>)> {
    if kind != DiskKind::Auto {
        return Ok((kind, None));
    }
    let root = dir.join("probe");
    let probed = Disk::create(DiskKind::Ext4Images, &root, 64 << 20).and_then(|d| d.unmount());
    let _ = std::fs::remove_file(root.with_extension("img"));
    let _ = std::fs::remove_dir(&root);
    match probed {
        Ok(()) => Ok((DiskKind::Ext4Images, None)),
        Err(why) => Ok((DiskKind::Plain, Some(format!("power cuts and small disks: {why:#}")))),
    }
}

/// Unmounts a directory as soon as nobody uses it. Succeeds if it is not mounted.
pub fn unmount_patiently(root: &Path) -> Result<()> {
    let deadline = Instant::now() + UNMOUNT_WITHIN;
    loop {
        match unmount(root, UnmountFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(rustix::io::Errno::BUSY) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("unmount {}", root.display()));
            }
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("run {}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed: {}", program.display(), said.trim());
    }
    Ok(())
}
