//! The datapath's own log: the programs write numbers into a ring buffer by aya-log, and a task here
//! makes words of them and hands them to the agent's log.

mod words;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Mutex;

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{info, warn};

use crate::config::DatapathLog;

/// Where the lines go in the agent's log; `WEIR_LOG=datapath=off` silences them.
const TARGET: &str = "datapath";

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The object has no ring buffer for it.
    #[error("the datapath log could not be opened: {0}; run weir without --datapath-log")]
    Open(#[from] aya_log::Error),
    /// No thread could be started to read it.
    #[error("the datapath log cannot be read: {0}; run weir without --datapath-log")]
    Thread(#[from] io::Error),
}

/// Sets what the programs have to know of the log, before they are loaded.
pub fn set_constants(loader: &mut EbpfLoader<'_>, log: DatapathLog) {
    match log {
        // The ring buffer is made with the object: one page, for no program writes into it.
        DatapathLog::Off => loader.map_max_entries("AYA_LOGS", 4096),
        DatapathLog::Debug => loader,
        DatapathLog::Trace => loader.override_global("LOG_STEPS", &1_u32, true),
    };
}

/// Prints what the loaded programs log, on a thread of its own, as long as the process runs.
///
/// # Errors
/// [`LogError`]
pub fn start(ebpf: &mut Ebpf) -> Result<(), LogError> {
    let mut logger = EbpfLogger::init_with_logger(ebpf, Printer::default())?;
    let read = move || {
        loop {
            let mut ready = [PollFd::new(logger.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => logger.flush(),
                Err(error) => return warn!("the datapath log is read no more: {error}"),
            }
        }
    };
    std::thread::Builder::new().name("datapath-log".into()).spawn(read)?;
    Ok(())
}

/// Makes words of each line and logs it.
#[derive(Default)]
struct Printer {
    /// Names of devices by their interface index, as they were when first seen.
    devices: Mutex<BTreeMap<u32, String>>,
}

impl Printer {
    fn device(&self, index: u32) -> String {
        let mut devices = self.devices.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let name = devices.entry(index).or_insert_with(|| crate::host::devices::name(index));
        name.clone()
    }
}

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        for line in words::lines(&record.args().to_string(), |index| self.device(index)) {
            info!(target: TARGET, "datapath: {line}");
        }
    }

    fn flush(&self) {}
}
