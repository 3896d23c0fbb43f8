//! The evidence of a lab run: readers of its files, pictures and verdicts.
//!
//! | module | job |
//! |---|---|
//! | [`observed`] | readers of recorded packets, processes and threads |
//! | [`timeline`], [`gantt`] | a run as spans of its tasks, and as a Gantt chart |
//! | [`chart`] | bar charts |
//! | [`pictures`] | the pictures of a run's folder |
//! | [`judge`] | the verdicts on a run, item by item |

pub mod chart;
pub mod gantt;
pub mod judge;
pub mod observed;
pub mod pictures;
pub mod timeline;
