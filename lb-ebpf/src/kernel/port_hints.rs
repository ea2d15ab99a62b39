//! Hints which source ports are in use. They are written without a lock: of two bits that two CPUs set at
//! once in one word, one may be lost, which costs a later flow an attempt.

use lb_common::snat::{self, Rows, WORDS};

use super::maps::{FULL_ROWS, PORT_HINTS};

/// The rows that are thought to be full for a group of flows.
#[inline(always)]
pub fn full_rows(group: u32) -> Rows {
    FULL_ROWS.get(snat::group_index(group)).copied().unwrap_or_default()
}

/// A row is thought to be full from now on.
#[inline(always)]
pub fn set_row_full(group: u32, row: u32) {
    let Some(rows) = FULL_ROWS.get_ptr_mut(snat::group_index(group)) else { return };
    let bit = 1 << (row % 64);
    // SAFETY: the kernel keeps the element until the program ends; any value of its words is good.
    unsafe {
        if row < 64 {
            (*rows).odd |= bit;
        } else {
            (*rows).even |= bit;
        }
    }
}

/// A word of a row of hints; all set beyond the array.
#[inline(always)]
pub fn word(row: u32, word: u32) -> u64 {
    let words = PORT_HINTS.get(row);
    words.and_then(|words| words.get((word % WORDS) as usize)).copied().unwrap_or(u64::MAX)
}

/// Sets a bit in a word of a row.
#[inline(always)]
pub fn set(row: u32, word: u32, bit: u64) {
    if let Some(words) = PORT_HINTS.get_ptr_mut(row) {
        // SAFETY: the word lies within the row, as its number is reduced to the row's length; the kernel
        // keeps the element until the program ends, and any value of it is good.
        unsafe { *words.cast::<u64>().add((word % WORDS) as usize) |= bit };
    }
}
