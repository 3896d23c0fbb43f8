//! Interleaving: the number of blocks whose symbols take turns.

use std::ops::RangeInclusive;

use crate::units::Blocks;

/// The bounds of the number of blocks that take turns: consecutive datagrams carry symbols of
/// different blocks. With some loss, the number is that of the receivers, so that the bursts that
/// different receivers lose do not all fall on one block. More blocks than needed would leave the
/// cache before they are sent.
const INTERLEAVED_BLOCKS: RangeInclusive<usize> = 2..=8;
/// Up to this smoothed loss, the smallest number of blocks takes turns.
const SPREAD_ABOVE_LOSS: f64 = 0.001;
/// The bounds of the number of blocks that take turns under heavier loss, and the number for each
/// receiver. A local switch loses whole batches; a lost batch then costs each block one or two
/// symbols.
const INTERLEAVED_BLOCKS_UNDER_LOSS: RangeInclusive<usize> = 24..=48;
const BLOCKS_PER_RECEIVER_UNDER_LOSS: usize = 12;
/// Above this smoothed loss more blocks take turns. They are also kept in memory until all
/// receivers have them.
const SPREAD_FURTHER_ABOVE_LOSS: f64 = 0.03;
/// The largest share of the receive window, as a fraction, whose blocks may take turns: the next
/// blocks should be on the way while these are repaired.
const MAX_SHARE_OF_RECEIVE_WINDOW: (usize, usize) = (3, 8);
/// The largest number of blocks that take turns, whatever the conditions.
pub(super) const MAX_INTERLEAVED_BLOCKS: usize = *INTERLEAVED_BLOCKS_UNDER_LOSS.end();

/// The state of the receivers on which the choice of the next symbol depends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    /// The number of the latest poll. Only the answers to later polls know of symbols sent now.
    pub(super) round: u32,
    /// The smallest receive window: the number of blocks that every receiver can hold.
    pub(super) receive_window: Blocks,
    /// The number of receivers that still receive.
    pub(super) receivers: usize,
    /// The smoothed share of symbols lost at the worst receiver.
    pub(super) loss: f64,
}

/// Whether so much is lost that blocks are kept in memory for their repair.
pub(super) fn is_loss_heavy(loss: f64) -> bool {
    loss > SPREAD_FURTHER_ABOVE_LOSS
}

/// The number of blocks that take turns (docs/PROTOCOL.md, section "Course of a transfer").
pub(super) fn interleaved_blocks(conditions: Conditions) -> usize {
    let within =
        |bounds: RangeInclusive<usize>, blocks: usize| blocks.clamp(*bounds.start(), *bounds.end());
    if conditions.loss <= SPREAD_ABOVE_LOSS {
        return *INTERLEAVED_BLOCKS.start();
    }
    let blocks = within(INTERLEAVED_BLOCKS, conditions.receivers);
    if conditions.loss <= SPREAD_FURTHER_ABOVE_LOSS {
        return blocks;
    }
    let many = conditions.receivers * BLOCKS_PER_RECEIVER_UNDER_LOSS;
    let (part, of) = MAX_SHARE_OF_RECEIVE_WINDOW;
    let most = conditions.receive_window.0 * part / of;
    within(INTERLEAVED_BLOCKS_UNDER_LOSS, many).min(most).max(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_tells_how_many_blocks_take_turns() {
        let document = include_str!("../../../../docs/PROTOCOL.md");
        let per_cent = |loss: f64| format!("{} %", (loss * 1000.0).round() / 10.0);
        let (few, many) = (INTERLEAVED_BLOCKS, INTERLEAVED_BLOCKS_UNDER_LOSS);
        let (spread, further) = (per_cent(SPREAD_ABOVE_LOSS), per_cent(SPREAD_FURTHER_ABOVE_LOSS));
        assert_eq!(MAX_SHARE_OF_RECEIVE_WINDOW, (3, 8));
        for row in [
            format!("| at most {spread} | {} |", few.start()),
            format!(
                "| up to {further} | 1 for each receiver, but {} to {} |",
                few.start(),
                few.end()
            ),
            format!(
                "| above {further} | {BLOCKS_PER_RECEIVER_UNDER_LOSS} for each receiver, but {} to \
                 {}; not more than three eighths of the blocks that receivers can hold",
                many.start(),
                many.end()
            ),
        ] {
            assert!(document.contains(&row), "docs/PROTOCOL.md lacks: {row}");
        }
    }

    #[test]
    fn more_blocks_take_turns_where_more_is_lost() {
        let blocks = |receivers, loss| {
            interleaved_blocks(Conditions {
                round: 0,
                receive_window: Blocks(128),
                receivers,
                loss,
            })
        };
        assert_eq!([blocks(1, 0.0), blocks(32, 0.0)], [2, 2]);
        assert_eq!([blocks(1, 0.01), blocks(5, 0.01), blocks(32, 0.01)], [2, 5, 8]);
        assert_eq!([blocks(1, 0.1), blocks(3, 0.1), blocks(32, 0.1)], [24, 36, 48]);
        let narrow = Conditions { round: 0, receive_window: Blocks(16), receivers: 3, loss: 0.1 };
        assert_eq!(interleaved_blocks(narrow), 6);
    }
}
