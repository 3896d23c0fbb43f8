//! How many datagrams were dropped, by reason.

use std::collections::BTreeMap;

/// Counts by reason, since they were last told.
#[derive(Debug, Default)]
pub(super) struct DroppedDatagrams(BTreeMap<String, u64>);

impl DroppedDatagrams {
    /// Counts `count` more; a reason's words must not be the sender's to choose.
    pub(super) fn count(&mut self, reason: impl Into<String>, count: u64) {
        if count > 0 {
            *self.0.entry(reason.into()).or_default() += count;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The counts, which begin at zero again.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (String, u64)> + use<> {
        std::mem::take(&mut self.0).into_iter()
    }
}
