//! The maps that exist in each family and that the agent writes, listed once: contents, operations and the
//! kernel's tables are declared from this list.

/// Hands the list to a macro: for each map the operation's name, the field's name, key, value, the map in
/// `lb_common::maps`. In key and value `A` is the family's address.
macro_rules! with_family_maps {
    ($declare:ident) => {
        $declare! {
            /// `FRONTENDS_*`
            Frontend, frontends: Frontend<A> => FrontendRow, FRONTENDS;
            /// `BACKENDS_*`: the rows that are in use.
            Backend, backends: BackendId => Backend<A>, BACKENDS;
            /// `IP_POLICY_*`
            IpPolicy, ip_policies: A => IpPolicy, IP_POLICY;
            /// `SRC_RANGES_*`: each range leads to [`LISTED`](lb_common::source_range::LISTED).
            SourceRange, source_ranges: SourceRange<A> => u32, SRC_RANGES;
        }
    };
}

pub(super) use with_family_maps;
