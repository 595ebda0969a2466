//! TUN devices and the few settings of a network interface, by ioctl: needs no program.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use rustix::net::{AddressFamily, SocketType, socket};

/// Largest packet on the wire. More than Ethernet's, because each costs two system calls.
pub const MTU: usize = 9000;

const TUNSETIFF: Opcode = 0x4004_54ca;
const SIOCSIFFLAGS: Opcode = 0x8914;
const SIOCSIFADDR: Opcode = 0x8916;
const SIOCSIFNETMASK: Opcode = 0x891c;
const SIOCSIFMTU: Opcode = 0x8922;
const SIOCSIFTXQLEN: Opcode = 0x8943;

const IFF_TUN: i16 = 0x0001;
const IFF_NO_PI: i16 = 0x1000;
const IFF_UP_RUNNING: i16 = 0x0041;
const AF_INET: u16 = 2;
/// Packets that wait for the switch.
const QUEUE_PACKETS: i32 = 4096;

/// `struct ifreq`: a name, and something about the interface.
#[repr(C)]
struct Request {
    name: [u8; 16],
    value: [u8; 24],
}

struct Call<'a, const CODE: Opcode>(&'a mut Request);

// SAFETY: every opcode above takes a `struct ifreq`, which `Request` is laid out as; the kernel
// reads and writes no more than that.
unsafe impl<const CODE: Opcode> Ioctl for Call<'_, CODE> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        CODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

impl Request {
    fn new(name: &str) -> Request {
        let mut request = Request { name: [0; 16], value: [0; 24] };
        let len = name.len().min(15);
        request.name[..len].copy_from_slice(&name.as_bytes()[..len]);
        request
    }

    fn with(mut self, value: &[u8]) -> Request {
        self.value[..value.len()].copy_from_slice(value);
        self
    }

    fn send<const CODE: Opcode>(mut self, fd: impl AsFd, what: &str) -> Result<Request> {
        // SAFETY: see the implementation of `Ioctl`.
        unsafe { ioctl(fd, Call::<CODE>(&mut self)) }.with_context(|| what.to_string())?;
        Ok(self)
    }
}

/// A new TUN device in the network namespace of the calling thread, up, with an address in a /24.
/// `pattern` is its name; `%d` in it becomes a number. It goes with the last copy of the file.
pub fn create(pattern: &str, ip: Ipv4Addr) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .context("open /dev/net/tun")?;
    let request = Request::new(pattern).with(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
    let made = request.send::<TUNSETIFF>(&file, "create a TUN device")?;
    let end = made.name.iter().position(|byte| *byte == 0).unwrap_or(made.name.len());
    let name = String::from_utf8_lossy(&made.name[..end]).into_owned();
    rustix::io::ioctl_fionbio(&file, true).context("make the TUN device non-blocking")?;

    let control = control()?;
    let of = || Request::new(&name);
    of().with(&(MTU as i32).to_ne_bytes()).send::<SIOCSIFMTU>(&control, "set the MTU")?;
    of().with(&QUEUE_PACKETS.to_ne_bytes()).send::<SIOCSIFTXQLEN>(&control, "set the queue")?;
    of().with(&address(ip)).send::<SIOCSIFADDR>(&control, "set the address")?;
    let mask = address(Ipv4Addr::new(255, 255, 255, 0));
    of().with(&mask).send::<SIOCSIFNETMASK>(&control, "set the mask")?;
    up(&name)?;
    Ok(file)
}

/// Brings an interface up in the network namespace of the calling thread.
pub fn up(name: &str) -> Result<()> {
    let request = Request::new(name).with(&IFF_UP_RUNNING.to_ne_bytes());
    request.send::<SIOCSIFFLAGS>(&control()?, "bring the interface up")?;
    Ok(())
}

fn control() -> Result<OwnedFd> {
    socket(AddressFamily::INET, SocketType::DGRAM, None).context("open a socket")
}

/// `struct sockaddr_in`.
fn address(ip: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    bytes[4..8].copy_from_slice(&ip.octets());
    bytes
}
