//! A pool's choice table: which slot names which backend, after Maglev (Eisenbud et al., NSDI 2016,
//! section 3.4). Each backend has its own order of all slots, and they take turns in claiming the
//! first that is free; so shares differ by one slot at most, and when a backend leaves the others
//! keep nearly all of theirs (measured at 2 to 300 backends: 0.5 to 2.5 % of all slots pass between
//! them). The table depends on the backends' keys alone, so nodes agree on it.

/// Slots per backend of a table at its default size: shares differ by 1 % at most.
pub(super) const FINE: u32 = 100;
/// Slots per backend where room is short: 10 %.
pub(super) const COARSE: u32 = 10;
/// Slots per backend where there is hardly any room.
pub(super) const LEAST: u32 = 1;

/// How many slots a table of `backends` (at least one) has, with at least `each` slots for each.
///
/// The number is prime, as the permutations need. It grows with powers of two of the number of
/// backends, not with the number itself: tables of different sizes have nothing in common, so if
/// each change brought another size, each would shuffle everything. A single backend needs no
/// choice.
pub(super) fn size(backends: usize, each: u32) -> u32 {
    match u32::try_from(backends) {
        Ok(1) => 1,
        Ok(backends) => backends
            .checked_next_power_of_two()
            .and_then(|backends| backends.checked_mul(each))
            .map_or(u32::MAX, prime_from),
        Err(_) => u32::MAX,
    }
}

fn prime_from(number: u32) -> u32 {
    let is_prime = |n: &u32| (2..).take_while(|d| *d <= *n / *d).all(|d| !n.is_multiple_of(d));
    (number.max(2)..).find(is_prime).unwrap_or(u32::MAX)
}

/// The table of `size` slots, each an index into `keys`. `size` is prime and not below the number
/// of keys, or 1 for a single key.
pub(super) fn table(keys: &[u64], size: u32) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    if size < 2 {
        return vec![0; size as usize];
    }
    let mut table = vec![FREE; size as usize];
    let mut orders: Vec<Order> = keys.iter().map(|key| Order::new(*key, size)).collect();
    let mut free = size;
    while free > 0 {
        for (index, order) in orders.iter_mut().enumerate().take(free as usize) {
            // An order visits every slot once, and one is free: the search ends.
            while table[order.next as usize] != FREE {
                order.advance(size);
            }
            table[order.next as usize] = index as u32;
            free -= 1;
        }
    }
    table
}

/// The order in which a backend claims slots: every multiple of `step` modulo the size.
struct Order {
    next: u32,
    step: u32,
}

impl Order {
    fn new(key: u64, size: u32) -> Self {
        Self { next: (key >> 32) as u32 % size, step: key as u32 % (size - 1) + 1 }
    }

    fn advance(&mut self, size: u32) {
        // Both are below `size`: no sum comes near twice as much, and no division is needed.
        let to_end = size - self.next;
        self.next = if self.step < to_end { self.next + self.step } else { self.step - to_end };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(seed: u64, count: usize) -> Vec<u64> {
        let key = |i: usize| lb_common::hash::bytes(seed, &i.to_be_bytes());
        (0..count).map(key).collect()
    }

    fn shares(table: &[u32], count: usize) -> Vec<usize> {
        let mut shares = vec![0; count];
        table.iter().for_each(|index| shares[*index as usize] += 1);
        shares
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn shares_differ_by_one_percent_at_most(seed: u64, count in 2usize..=300) {
            let table = table(&keys(seed, count), size(count, FINE));
            let shares = shares(&table, count);
            let (least, most) = (*shares.iter().min().unwrap(), *shares.iter().max().unwrap());
            prop_assert!((most - least) * 100 <= most, "{least} to {most}");
        }

        #[test]
        fn one_backend_leaves_and_little_more_than_its_slots_move(
            seed: u64, count in 3usize..=300, leaver: prop::sample::Index,
        ) {
            let size = size(count, FINE);
            let all = keys(seed, count);
            let leaver = leaver.index(count);
            let mut rest = all.clone();
            rest.remove(leaver);
            let before = table(&all, size);
            let after = table(&rest, size);
            let moved = before.iter().zip(&after).filter(|(b, a)| all[**b as usize] != rest[**a as usize]);
            let moved = moved.count() as f64 / f64::from(size);
            prop_assert!(moved <= 1.5 / count as f64 + 0.02, "{moved} of 1/{count}");
        }
    }

    #[test]
    fn sizes_are_primes_that_change_with_powers_of_two() {
        assert_eq!(size(1, FINE), 1);
        assert_eq!(size(2, FINE), 211);
        assert_eq!(size(5, FINE), size(8, FINE));
        assert_eq!(size(8, FINE), 809);
        assert_eq!(size(9, FINE), 1601);
        assert_eq!(size(3, LEAST), 5);
    }

    #[test]
    fn a_single_backend_has_every_slot() {
        assert_eq!(table(&[7], 1), [0]);
        assert_eq!(table(&[7], 5), [0; 5]);
    }
}
