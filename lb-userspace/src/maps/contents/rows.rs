//! What differs between the address families' maps, told once, so that the rest is written for both.

use std::collections::BTreeSet;

use lb_common::address::{V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::maps::{self, Map};
use lb_common::service::{AddressRow, Frontend, FrontendRow};
use lb_common::settings::InSettings;
use lb_common::source_range::SourceRange;

use super::{BackendSet, Contents, FamilyContents};
use crate::maps::diff::Operation;

/// Where the rows of an address family stand, for code that is written once for both.
pub trait Rows: InSettings {
    /// This family's rows.
    fn rows(contents: &Contents) -> &FamilyContents<Self>;
    /// This family's rows, to change.
    fn rows_mut(contents: &mut Contents) -> &mut FamilyContents<Self>;
    /// `FRONTENDS_*`
    fn frontends_map() -> &'static Map;
    /// `BACKENDS_*`
    fn backends_map() -> &'static Map;
    /// `ADDRESSES_*`
    fn addresses_map() -> &'static Map;
    /// `RANGES_*`
    fn source_ranges_map() -> &'static Map;
    /// This family's backends of `set`.
    fn ids(set: &BackendSet) -> &BTreeSet<BackendId>;
    /// The operation that writes (`Some`) or removes (`None`) a frontend.
    fn write_frontend(frontend: Frontend<Self>, row: Option<FrontendRow>) -> Operation;
    /// The operation that writes (`Some`) or removes (`None`) a backend.
    fn write_backend(id: BackendId, row: Option<Backend<Self>>) -> Operation;
    /// The operation that writes (`Some`) or removes (`None`) an address.
    fn write_address(address: Self, row: Option<AddressRow>) -> Operation;
    /// The operation that adds or removes a source range.
    fn write_range(range: SourceRange<Self>, is_there: bool) -> Operation;
}

impl Rows for V4 {
    fn rows(contents: &Contents) -> &FamilyContents<Self> {
        &contents.v4
    }

    fn rows_mut(contents: &mut Contents) -> &mut FamilyContents<Self> {
        &mut contents.v4
    }

    fn frontends_map() -> &'static Map {
        &maps::FRONTENDS_V4
    }

    fn backends_map() -> &'static Map {
        &maps::BACKENDS_V4
    }

    fn addresses_map() -> &'static Map {
        &maps::ADDRESSES_V4
    }

    fn source_ranges_map() -> &'static Map {
        &maps::RANGES_V4
    }

    fn ids(set: &BackendSet) -> &BTreeSet<BackendId> {
        &set.v4
    }

    fn write_frontend(frontend: Frontend<Self>, row: Option<FrontendRow>) -> Operation {
        Operation::FrontendV4(frontend, row)
    }

    fn write_backend(id: BackendId, row: Option<Backend<Self>>) -> Operation {
        Operation::BackendV4(id, row)
    }

    fn write_address(address: Self, row: Option<AddressRow>) -> Operation {
        Operation::AddressV4(address, row)
    }

    fn write_range(range: SourceRange<Self>, is_there: bool) -> Operation {
        Operation::SourceRangeV4(range, is_there)
    }
}

impl Rows for V6 {
    fn rows(contents: &Contents) -> &FamilyContents<Self> {
        &contents.v6
    }

    fn rows_mut(contents: &mut Contents) -> &mut FamilyContents<Self> {
        &mut contents.v6
    }

    fn frontends_map() -> &'static Map {
        &maps::FRONTENDS_V6
    }

    fn backends_map() -> &'static Map {
        &maps::BACKENDS_V6
    }

    fn addresses_map() -> &'static Map {
        &maps::ADDRESSES_V6
    }

    fn source_ranges_map() -> &'static Map {
        &maps::RANGES_V6
    }

    fn ids(set: &BackendSet) -> &BTreeSet<BackendId> {
        &set.v6
    }

    fn write_frontend(frontend: Frontend<Self>, row: Option<FrontendRow>) -> Operation {
        Operation::FrontendV6(frontend, row)
    }

    fn write_backend(id: BackendId, row: Option<Backend<Self>>) -> Operation {
        Operation::BackendV6(id, row)
    }

    fn write_address(address: Self, row: Option<AddressRow>) -> Operation {
        Operation::AddressV6(address, row)
    }

    fn write_range(range: SourceRange<Self>, is_there: bool) -> Operation {
        Operation::SourceRangeV6(range, is_there)
    }
}
