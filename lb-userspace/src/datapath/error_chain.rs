//! An error together with its causes.

use std::error::Error;

/// An error and what it came from: aya names the kernel's errno only there.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut chain = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !chain.contains(&text) {
            chain = format!("{chain}: {text}");
        }
        cause = error.source();
    }
    chain
}
