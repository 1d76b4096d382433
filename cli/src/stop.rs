//! Ctrl-C and SIGTERM: the first asks the work to end in order, the second ends the process on the spot.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{signal, SignalKind};

use crate::Error;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Exit code of a process that a signal has ended, by the custom of shells.
const INTERRUPTED: i32 = 130;

/// Whether the user asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Listens from now on, on a thread of its own.
///
/// # Errors
/// When the system refuses.
pub fn handle_signals() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _in_runtime = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let listen = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if ASKED.swap(true, Ordering::Relaxed) {
                std::process::exit(INTERRUPTED);
            }
            eprintln!("cosmosflink: ending what is under way; once more ends at once");
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(listen))?;
    Ok(())
}
