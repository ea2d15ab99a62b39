extern crate std;

use core::sync::atomic::AtomicU64;
use std::collections::BTreeSet;
use std::vec::Vec;

use super::*;
use crate::address::{Port, Protocol, V4, V6};
use crate::backend::BackendId;

/// A table in memory.
struct Heap {
    buckets: Vec<AtomicU64>,
    words: usize,
}

impl Heap {
    fn new<A: Stored>(buckets: usize) -> Self {
        let length = buckets * size_of::<A::Bucket>() / size_of::<u64>();
        let buckets = (0..length).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, words: words::<A>() }
    }

    fn memory(&self) -> Slices<'_> {
        Slices::new(&self.buckets, self.words)
    }
}

const NOW: Ticks = Ticks(1_000_000);

fn stamp() -> Stamp {
    Stamp::of_ticks(NOW)
}

fn v4(number: u32) -> Tuple<V4> {
    let port = Port::new((number % 60_000) as u16);
    let client = V4((0x0a00_0000 + number / 60_000).to_be_bytes());
    Tuple::new(client, port, V4([10, 96, 0, 1]), Port::new(53), Protocol::UDP)
}

fn v6(number: u32) -> Tuple<V6> {
    let mut client = [0xfd; 16];
    client[12..].copy_from_slice(&number.to_be_bytes());
    let port = Port::new(40_000);
    Tuple::new(V6(client), port, V6([0xfe; 16]), Port::new(443), Protocol::TCP)
}

fn entry<A: Address>(tuple: &Tuple<A>) -> ConntrackEntry<A> {
    ConntrackEntry {
        rewritten: Tuple::new(
            tuple.destination,
            Port::new(1),
            tuple.source,
            Port::new(2),
            tuple.protocol,
        ),
        backend: BackendId(BackendId::END),
        generation: 0xabc,
        last_seen: NOW,
        state: State::REPLIED.with(State::ESTABLISHED).with_reset(Ticks(5)),
        expected: 0xdead_beef,
        flags: ConntrackEntry::<A>::REPLY | ConntrackEntry::<A>::HAIRPIN,
        ..ConntrackEntry::empty()
    }
}

fn look_up<A: Stored>(heap: &Heap, tuple: &Tuple<A>) -> Option<ConntrackEntry<A>> {
    let mut entry = ConntrackEntry::empty();
    read(heap.memory(), tuple, NOW, &mut entry).then_some(entry)
}

fn comes_back<A: Stored>(tuple: Tuple<A>, other: Tuple<A>) {
    let heap = Heap::new::<A>(4);
    let memory = heap.memory();
    let wanted = entry(&tuple);
    assert_eq!(look_up(&heap, &tuple), None);
    let insert = |tuple| insert(memory, tuple, &wanted, stamp(), WhenFull::Refuse);
    assert_eq!(insert(&tuple), Ok(()));
    assert_eq!(look_up(&heap, &tuple), Some(wanted));
    assert_eq!(look_up(&heap, &other), None);
    assert_eq!(insert(&tuple), Err(NotInserted::Exists));
    assert!(has_mapping(memory, &tuple, &wanted.rewritten.reversed()));
    assert!(!has_mapping(memory, &tuple, &tuple));

    set_expected(memory, &tuple, 7);
    set_state(memory, &tuple, wanted.state, wanted.state.with(State::FIN_CLIENT));
    let found = look_up(&heap, &tuple).unwrap();
    assert_eq!(found.expected, 7);
    assert_eq!(found.state, wanted.state.with(State::FIN_CLIENT));

    let later = Ticks(NOW.0 + 9);
    let mut touched = ConntrackEntry::empty();
    assert!(read_and_touch(memory, &tuple, later, 100, &mut touched));
    assert_eq!((touched.last_seen, touched.expected), (later, 100));
    assert!(read(memory, &tuple, later, &mut touched));
    assert_eq!((touched.last_seen, touched.expected), (later, 100));

    let mut all = Vec::new();
    let collected: Result<(), ()> = for_each(
        memory,
        || later,
        |tuple, _: ConntrackEntry<A>| {
            all.push(tuple);
            Ok(())
        },
    );
    assert_eq!((collected, all), (Ok(()), std::vec![tuple]));

    assert_eq!(remove_unchanged(memory, &tuple, later, &wanted), Removed::Not, "it was seen since");
    assert_eq!(remove_unchanged(memory, &tuple, later, &touched), Removed::Now);
    assert_eq!(remove_unchanged(memory, &tuple, later, &touched), Removed::Before);
    assert_eq!(look_up(&heap, &tuple), None);
    assert_eq!(insert(&tuple), Ok(()));
    remove(memory, &tuple);
    assert_eq!(look_up(&heap, &tuple), None);
    assert_eq!(insert(&tuple), Ok(()));
}

#[test]
fn an_entry_comes_back_as_it_was_inserted_in_both_families() {
    comes_back(v4(1), v4(2));
    comes_back(v6(1), v6(2));
}

#[test]
fn every_place_of_a_bucket_is_found_again() {
    let heap = Heap::new::<V4>(1);
    let memory = heap.memory();
    for number in 0..WAYS {
        let tuple = v4(number);
        assert_eq!(insert(memory, &tuple, &entry(&tuple), stamp(), WhenFull::Refuse), Ok(()));
    }
    for number in 0..WAYS {
        assert_eq!(look_up(&heap, &v4(number)), Some(entry(&v4(number))));
    }
    let more = v4(WAYS);
    let insert = |when_full| insert(memory, &more, &entry(&more), stamp(), when_full);
    assert_eq!(insert(WhenFull::Refuse), Err(NotInserted::Full));
    assert_eq!(insert(WhenFull::Evict), Ok(()));
    assert!(look_up(&heap, &more).is_some());
    let left = (0..WAYS).filter(|number| look_up(&heap, &v4(*number)).is_some()).count();
    assert_eq!(left, WAYS as usize - 1);
}

#[test]
fn a_full_table_evicts_what_was_not_seen_for_the_longest_time() {
    let heap = Heap::new::<V6>(1);
    let memory = heap.memory();
    for number in 0..WAYS {
        let tuple = v6(number);
        let seen = Stamp(stamp().0 + (number + 3) % WAYS);
        assert_eq!(insert(memory, &tuple, &entry(&tuple), seen, WhenFull::Evict), Ok(()));
    }
    let more = v6(WAYS);
    let now = Stamp(stamp().0 + 50);
    assert_eq!(insert(memory, &more, &entry(&more), now, WhenFull::Evict), Ok(()));
    assert_eq!(look_up(&heap, &v6(5)), None, "the oldest");
    assert!((0..5).chain(6..9).all(|number| look_up(&heap, &v6(number)).is_some()));
}

#[test]
fn a_full_table_evicts_what_is_answered_before_what_waits_for_its_answer() {
    let answered = State::REPLIED;
    for (protocol, answered, evicted) in [
        (Protocol::UDP, answered, 6),
        (Protocol::UDP, answered.with(State::ESTABLISHED), 0),
        (Protocol::TCP, answered, 0),
    ] {
        let heap = Heap::new::<V6>(1);
        let memory = heap.memory();
        let tuple = |number| Tuple { protocol, ..v6(number) };
        for number in 0..WAYS {
            let state = if number < 6 { State::NEW } else { answered };
            let entry = ConntrackEntry { state, ..entry(&tuple(number)) };
            let seen = Stamp(stamp().0 + number * Stamp::of_seconds(1) / 2);
            assert_eq!(insert(memory, &tuple(number), &entry, seen, WhenFull::Evict), Ok(()));
        }
        // Those without an answer are 5 to 2.5 s old, those with one 2 and 1.5.
        let now = Stamp(stamp().0 + Stamp::of_seconds(5));
        let more = tuple(WAYS);
        assert_eq!(insert(memory, &more, &entry(&more), now, WhenFull::Evict), Ok(()));
        let gone: Vec<_> = (0..WAYS).filter(|n| look_up(&heap, &tuple(*n)).is_none()).collect();
        assert_eq!(gone, [evicted], "{protocol:?}");
    }
}

#[test]
fn a_full_table_gives_the_place_of_a_flow_that_has_been_over_for_long() {
    let over = |state: State| State::ESTABLISHED.with(State::REPLIED).with(state);
    let closed = over(State::FIN_CLIENT.with(State::FIN_BACKEND));
    let later = |seconds| Stamp(stamp().0 + Stamp::of_seconds(seconds));
    for (state, after, wanted) in [
        (closed, later(30), Ok(())),
        (State::ESTABLISHED.with_reset(Ticks(5)), later(30), Ok(())),
        (closed, later(10), Err(NotInserted::Full)),
        (over(State::FIN_CLIENT), later(3000), Err(NotInserted::Full)),
        (over(State::NEW), later(80_000), Err(NotInserted::Full)),
    ] {
        let heap = Heap::new::<V4>(1);
        let memory = heap.memory();
        for number in 0..WAYS {
            let tuple = v4(number);
            let entry = ConntrackEntry {
                state: if number == 5 { state } else { State::ESTABLISHED },
                ..entry(&tuple)
            };
            assert_eq!(insert(memory, &tuple, &entry, stamp(), WhenFull::Refuse), Ok(()));
        }
        let more = v4(WAYS);
        assert_eq!(insert(memory, &more, &entry(&more), after, WhenFull::Refuse), wanted);
        assert_eq!(look_up(&heap, &v4(5)).is_none(), wanted.is_ok(), "{state:?}");
        assert_eq!(look_up(&heap, &more).is_some(), wanted.is_ok(), "{state:?}");
    }
}

/// At the highest load that the agent makes tables for, new flows find a place, however long flows come and go.
#[test]
fn a_table_at_its_capacity_refuses_no_new_flow() {
    const BUCKETS: usize = 2048;
    const ENTRIES: u32 = BUCKETS as u32 * WAYS * 11 / 20;
    let heap = Heap::new::<V4>(BUCKETS);
    let memory = heap.memory();
    let mut refused = 0;
    for number in 0..6 * ENTRIES {
        if number >= ENTRIES {
            remove(memory, &v4(number - ENTRIES));
        }
        let tuple = v4(number);
        if insert(memory, &tuple, &entry(&tuple), stamp(), WhenFull::Refuse).is_err() {
            refused += 1;
        }
    }
    assert_eq!(refused, 0);
    let mut left = BTreeSet::new();
    let _: Result<(), ()> = for_each(
        memory,
        || NOW,
        |tuple, _: ConntrackEntry<V4>| {
            left.insert(tuple);
            Ok(())
        },
    );
    assert_eq!(left, (5 * ENTRIES..6 * ENTRIES).map(v4).collect());
}
