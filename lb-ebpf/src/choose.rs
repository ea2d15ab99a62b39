//! Which backend a new flow gets.

use lb_common::address::{Address, Tuple};
use lb_common::backend::{Backend, BackendId};
use lb_common::hash;
use lb_common::outcome::Outcome;
use lb_common::service::{FrontendRow, SourceClass, Verdict};

use crate::tables::Tables;

/// A backend for a flow of `tuple`: the one in the slot that the tuple hashes to.
#[inline(always)]
pub fn backend<A: Address, T: Tables<A>>(
    tables: &T,
    row: &FrontendRow,
    class: SourceClass,
    tuple: &Tuple<A>,
) -> Result<(BackendId, Backend<A>), Outcome> {
    let pool = row.pool(class);
    match pool.verdict() {
        None => {}
        Some(Verdict::NoEndpoint) => return Err(Outcome::NoEndpoint),
        Some(Verdict::NoLocalEndpoint) => return Err(Outcome::NoLocalEndpoint),
    }
    let slot = pool.base.wrapping_add(hash::reduce(hash::tuple(tuple), pool.length));
    let id = tables.slot(slot).ok_or(Outcome::NoBackend)?;
    let backend = tables.backend(id).ok_or(Outcome::NoBackend)?;
    Ok((id, backend))
}
