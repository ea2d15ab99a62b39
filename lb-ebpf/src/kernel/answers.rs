//! How many senders may be answered: what nobody asked for in good faith must not be multiplied.

use core::ptr;

use super::maps::ANSWERS;
use super::world::Kernel;

/// Answers that a CPU may give in one turn, of `ANSWER_TURN`: some 1,000 a second, as the kernel
/// limits its own ICMP (`net.ipv4.icmp_msgs_per_sec`, 1,000 by default until 6.11). Tests that count
/// set both before they load the programs.
#[unsafe(no_mangle)]
static ANSWERS_PER_TURN: u32 = 1074;

/// How long a turn lasts, in nanoseconds, as a shift: 1.07 s.
#[unsafe(no_mangle)]
static ANSWER_TURN: u32 = 30;

/// What a CPU has answered.
#[repr(C)]
pub struct Answers {
    /// The turn it counts for.
    turn: u32,
    /// Answers in that turn.
    given: u32,
}

/// Whether one more may be given; it is then counted.
#[inline(always)]
pub fn may_give(kernel: &Kernel) -> bool {
    let Some(answers) = ANSWERS.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one
    // CPU do not interrupt each other. No other reference to it exists.
    let answers = unsafe { &mut *answers };
    // SAFETY: plain reads of constants that nothing writes once the program is loaded.
    let (shift, most) = unsafe {
        (
            ptr::read_volatile(&raw const ANSWER_TURN),
            ptr::read_volatile(&raw const ANSWERS_PER_TURN),
        )
    };
    let turn = (kernel.nanoseconds() >> (shift & 63)) as u32;
    if answers.turn != turn {
        *answers = Answers { turn, given: 0 };
    }
    if answers.given >= most {
        return false;
    }
    answers.given += 1;
    true
}
