//! Memory that will be needed is fetched into the cache while something else is done.

/// Bytes of a processor's cache line.
pub(crate) const LINE: usize = 64;

/// Fetches `bytes`. A processor has a few dozen lines on their way at once; the others wait. Does
/// nothing where it offers no such instruction.
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the address is that of a byte that lives, and a prefetch neither reads nor
        // writes anything that a program can see.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}
