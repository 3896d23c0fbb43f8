//! Memory that will be needed is fetched into the cache while something else is done.

/// Bytes of a processor's cache line.
pub(crate) const LINE: usize = 64;

/// Fetches `bytes`. A processor has a few dozen lines on their way at once; the others wait.
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8]) {
    bytes.chunks(LINE).for_each(prefetch_line);
}

/// Fetches the line where `line` begins. Does nothing where the processor offers no such
/// instruction, or if `line` is empty.
#[inline(always)]
pub(crate) fn prefetch_line(line: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(byte) = line.first() {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the address is that of a byte that lives, and a prefetch neither reads nor
        // writes anything that a program can see.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(byte).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
