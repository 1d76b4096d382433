//! The allocator of the library.

/// Pages are allocated and freed by the megabyte; the system's allocator gives such blocks back to the kernel each time, which costs
/// more than the copying.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2: after how many milliseconds freed memory goes back to the kernel.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Long enough for the blocks of one request or page to serve the next one; an idle process still shrinks.
const PURGE_DELAY_MILLIS: std::ffi::c_long = 1000;

/// Keeps freed blocks for a while. The default of 10 ms has a busy sink return and fault in again the memory of each request.
pub fn configure() {
    // SAFETY: sets an integer in mimalloc's own table, which it allows at any time; the index is that of the pinned version.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MILLIS) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: reads an integer of mimalloc's own table. 10 ms is the documented default of the purge delay and of no option beside it.
        let read = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(read(), 10);
        configure();
        assert_eq!(read(), PURGE_DELAY_MILLIS);
    }
}
