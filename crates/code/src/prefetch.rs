//! Prefetch instructions: memory is fetched into the processor's cache ahead of its use.

/// The length of a processor's cache line in bytes.
pub const LINE: usize = 64;

/// Fetches the cache lines of `bytes`. A processor fetches a few dozen lines at once, and further
/// lines wait for them: `bytes` should be a few kilobytes at most.
#[inline(always)]
pub fn prefetch(bytes: &[u8]) {
    bytes.chunks(LINE).for_each(prefetch_line);
}

/// Fetches the cache line that holds the first byte of `line`. Does nothing if `line` is empty, or
/// on processors other than x86-64.
#[inline(always)]
pub fn prefetch_line(line: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(byte) = line.first() {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the address belongs to a borrowed byte, and a prefetch changes nothing that a
        // program can observe.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(byte).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
