//! Errors of reading and writing maps, with what to do about them.

/// The error of reading or writing a map.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The map is full.
    #[error("{map} is full: restart weir with a larger {flag}")]
    Full {
        /// Name of the map.
        map: &'static str,
        /// The flag of `weir run` that sets its size.
        flag: &'static str,
    },
    /// The system call failed.
    #[error("cannot {operation} {map}: {cause}; run `weir check`")]
    Refused {
        /// Name of the map.
        map: &'static str,
        /// The operation, such as `write a row of`.
        operation: &'static str,
        /// The kernel's error.
        cause: std::io::Error,
    },
}

impl MapError {
    /// Name of the map.
    #[must_use]
    pub const fn map(&self) -> &'static str {
        match self {
            Self::Full { map, .. } | Self::Refused { map, .. } => map,
        }
    }

    /// The error for an operation on `map` that failed with `cause`. The kernel returns `E2BIG` for a full
    /// map.
    #[must_use]
    pub fn new(map: &lb_common::maps::Map, operation: &'static str, cause: std::io::Error) -> Self {
        match (cause.raw_os_error(), size_flag(map.capacity)) {
            (Some(libc::E2BIG), Some(flag)) => Self::Full { map: map.name, flag },
            _ => Self::Refused { map: map.name, operation, cause },
        }
    }
}

/// The flag of `weir run` that sets the size of a map; `None` if it is fixed.
#[must_use]
pub const fn size_flag(capacity: lb_common::maps::Capacity) -> Option<&'static str> {
    use lb_common::maps::Capacity;
    match capacity {
        Capacity::Fixed(_) => None,
        // Every Service port has a frontend.
        Capacity::Services | Capacity::Frontends => Some("--frontend-table-size"),
        Capacity::Slots => Some("--slot-table-size"),
        Capacity::Backends => Some("--backend-table-size"),
        Capacity::ConntrackBuckets | Capacity::HalfOpenBuckets => Some("--conntrack-table-size"),
        Capacity::Affinity => Some("--affinity-table-size"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn a_full_map_names_the_flag_to_raise() {
        for (map, flag) in [
            (lb_common::maps::FRONTENDS.v4, "--frontend-table-size"),
            (lb_common::maps::SERVICES, "--frontend-table-size"),
            (lb_common::maps::BACKENDS.v6, "--backend-table-size"),
            (lb_common::maps::SLOTS, "--slot-table-size"),
            (lb_common::maps::CONNTRACK.v4, "--conntrack-table-size"),
        ] {
            let full = Error::from_raw_os_error(libc::E2BIG);
            let text = MapError::new(&map, "write a row of", full).to_string();
            assert_eq!(text, format!("{} is full: restart weir with a larger {flag}", map.name));
        }
    }

    #[test]
    fn another_refusal_names_map_operation_and_cause() {
        let refused = Error::from_raw_os_error(libc::EPERM);
        let error = MapError::new(&lb_common::maps::SLOTS, "write a range of", refused);
        let text = error.to_string();
        assert!(
            text.starts_with("cannot write a range of SLOTS: Operation not permitted"),
            "{text}"
        );
    }
}
