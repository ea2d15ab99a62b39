//! The steps through a bucket as global functions: see [`super::flow_table`].

use lb_common::address::{Tuple, V4, V6};
use lb_common::conntrack::table::{self, Stamp, Steps};

use super::flow_memory::FlowMemory;

/// Defines the global function of a step that compares with a tuple.
macro_rules! of_tuple {
    ($A:ty, $function:ident, $step:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $function(
            table: u32,
            index: u32,
            tuple: *const Tuple<$A>,
            pattern: u64,
        ) -> u64 {
            // SAFETY: not null, and of the walk that called, which waits for the result.
            let Some(tuple) = (unsafe { tuple.as_ref() }) else { return 0 };
            table::$step(FlowMemory::<$A>::of_number(table), index, tuple, pattern)
        }
    };
}

/// Defines a family's global functions, and [`Steps`] of its tables by them.
macro_rules! functions {
    ($A:ty, $search:ident, $search_all:ident, $free:ident, $oldest:ident, $over:ident, $is_first:ident, $is_written:ident) => {
        of_tuple!($A, $search, search);
        of_tuple!($A, $search_all, search_all);

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $free(table: u32, index: u32, likely: u32) -> u32 {
            table::free(FlowMemory::<$A>::of_number(table), index, likely)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $oldest(table: u32, index: u32, now: u32) -> u64 {
            table::oldest(FlowMemory::<$A>::of_number(table), index, Stamp(now))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $over(table: u32, index: u32, now: u32) -> u32 {
            table::over(FlowMemory::<$A>::of_number(table), index, Stamp(now))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $is_first(table: u32, index: u32, hash: u32, own: u32) -> u32 {
            u32::from(table::is_first(FlowMemory::<$A>::of_number(table), index, hash, own))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $is_written(table: u32, index: u32, hash: u32) -> u32 {
            u32::from(table::is_written(FlowMemory::<$A>::of_number(table), index, hash))
        }

        impl Steps<$A> for FlowMemory<$A> {
            #[inline(always)]
            fn search(self, index: u32, tuple: &Tuple<$A>, pattern: u64) -> u64 {
                $search(self.number, index, tuple, pattern)
            }

            #[inline(always)]
            fn search_all(self, index: u32, tuple: &Tuple<$A>, pattern: u64) -> u64 {
                $search_all(self.number, index, tuple, pattern)
            }

            #[inline(always)]
            fn free(self, index: u32, likely: u32) -> u32 {
                $free(self.number, index, likely)
            }

            #[inline(always)]
            fn oldest(self, index: u32, now: Stamp) -> u64 {
                $oldest(self.number, index, now.0)
            }

            #[inline(always)]
            fn over(self, index: u32, now: Stamp) -> u32 {
                $over(self.number, index, now.0)
            }

            #[inline(always)]
            fn is_first(self, index: u32, hash: u32, own: u32) -> bool {
                $is_first(self.number, index, hash, own) != 0
            }

            #[inline(always)]
            fn is_written(self, index: u32, hash: u32) -> bool {
                $is_written(self.number, index, hash) != 0
            }
        }
    };
}

functions!(
    V4,
    bucket_search_v4,
    bucket_search_all_v4,
    bucket_free_v4,
    bucket_oldest_v4,
    bucket_over_v4,
    bucket_is_first_v4,
    bucket_is_written_v4
);
functions!(
    V6,
    bucket_search_v6,
    bucket_search_all_v6,
    bucket_free_v6,
    bucket_oldest_v6,
    bucket_over_v6,
    bucket_is_first_v6,
    bucket_is_written_v6
);
