//! The conntrack tables under many interleavings of two or three CPUs, at each read and write of a word.

use std::sync::Arc;

use lb_common::address::{Port, Protocol, Tuple, V4};
use lb_common::backend::BackendId;
use lb_common::conntrack::table::{self, Memory, NotInserted, Stamp, Steps, WAYS, WhenFull, words};
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use crate::{SWITCHES, TRIES};

const NOW: Ticks = Ticks(1_000);

/// A table of one bucket, so that all tuples meet.
struct Bucket(Vec<AtomicU64>);

impl Bucket {
    fn new() -> Arc<Self> {
        let count = WAYS as usize * (1 + words::<V4>());
        Arc::new(Self((0..count).map(|_| AtomicU64::new(0)).collect()))
    }

    fn word(&self, way: u32, index: usize) -> &AtomicU64 {
        &self.0[WAYS as usize + way as usize * words::<V4>() + index]
    }

    fn insert(&self, number: u16, when_full: WhenFull) -> Result<(), NotInserted> {
        table::insert(self, &tuple(number), &entry(number), Stamp::of_ticks(NOW), when_full)
    }

    fn read(&self, number: u16) -> Option<ConntrackEntry<V4>> {
        let mut entry = ConntrackEntry::empty();
        table::read(self, &tuple(number), NOW, &mut entry).then_some(entry)
    }

    /// How often each tuple's entry is in the table.
    fn count(&self, number: u16) -> usize {
        let mut count = 0;
        let all: Result<(), ()> = table::for_each(
            self,
            || NOW,
            |found, _: ConntrackEntry<V4>| {
                count += usize::from(found == tuple(number));
                Ok(())
            },
        );
        all.expect("no visit fails");
        count
    }
}

impl<A: lb_common::address::Address> Steps<A> for &Bucket {}

impl Memory for &Bucket {
    type Bucket = ();

    fn buckets(&self) -> u32 {
        1
    }

    fn bucket(&self, index: u32) -> Option<()> {
        (index == 0).then_some(())
    }

    fn header(&self, (): (), way: u32) -> u64 {
        self.0[way as usize].load(Ordering::SeqCst)
    }

    fn compare_exchange(&self, (): (), way: u32, current: u64, new: u64) -> u64 {
        let header = &self.0[way as usize];
        match header.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(found) | Err(found) => found,
        }
    }

    fn set_header(&self, (): (), way: u32, header: u64) {
        self.0[way as usize].store(header, Ordering::SeqCst);
    }

    fn word(&self, (): (), way: u32, index: usize) -> u64 {
        Bucket::word(self, way, index).load(Ordering::SeqCst)
    }

    fn set_word(&self, (): (), way: u32, index: usize, word: u64) {
        Bucket::word(self, way, index).store(word, Ordering::SeqCst);
    }

    fn replace_word(&self, (): (), way: u32, index: usize, current: u64, new: u64) {
        let word = Bucket::word(self, way, index);
        let _moved = word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst);
    }
}

fn tuple(number: u16) -> Tuple<V4> {
    let client = V4([10, 244, 0, 9]);
    Tuple::new(client, Port::new(number), V4([10, 96, 0, 1]), Port::new(80), Protocol::TCP)
}

/// An entry each word of which says whose it is.
fn entry(number: u16) -> ConntrackEntry<V4> {
    let [high, low] = number.to_be_bytes();
    let address = V4([high, low, high, low]);
    let port = Port::new(number);
    ConntrackEntry {
        rewritten: Tuple::new(address, port, address, port, Protocol::TCP),
        backend: BackendId(number.into()),
        expected: number.into(),
        last_seen: NOW,
        ..ConntrackEntry::empty()
    }
}

fn explore(race: fn()) {
    shuttle::check_random(race, TRIES);
    shuttle::check_pct(race, TRIES, SWITCHES);
}

#[test]
fn of_several_cpus_that_insert_entries_of_one_tuple_one_succeeds() {
    explore(|| {
        let bucket = Bucket::new();
        // A place between them is given up meanwhile: so the CPUs may claim different ones.
        bucket.insert(1, WhenFull::Refuse).expect("there is room");
        let cpus: Vec<_> = (0..3)
            .map(|cpu| {
                let bucket = Arc::clone(&bucket);
                thread::spawn(move || {
                    if cpu == 0 {
                        table::remove(&*bucket, &tuple(1));
                    }
                    bucket.insert(2, WhenFull::Refuse)
                })
            })
            .collect();
        let results: Vec<_> = cpus.into_iter().map(|cpu| cpu.join().expect("no panic")).collect();
        let succeeded = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(succeeded, 1, "{results:?}");
        assert!(!results.contains(&Err(NotInserted::Full)), "{results:?}");
        assert_eq!(bucket.count(2), 1);
        assert_eq!(bucket.read(2), Some(entry(2)));
    });
}

#[test]
fn a_place_that_another_flow_takes_is_never_read_as_the_former_one() {
    explore(|| {
        let bucket = Bucket::new();
        for number in 1..=WAYS as u16 {
            bucket.insert(number, WhenFull::Evict).expect("there is room");
        }
        let other = Arc::clone(&bucket);
        let writer = thread::spawn(move || {
            table::remove(&*other, &tuple(3));
            other.insert(100, WhenFull::Evict).expect("there is room");
            other.insert(101, WhenFull::Evict).expect("there is what can be evicted");
        });
        for number in [3, 100, 101] {
            assert!(bucket.read(number).is_none_or(|found| found == entry(number)));
        }
        writer.join().expect("no panic");
        assert_eq!(bucket.read(100), Some(entry(100)));
    });
}

#[test]
fn two_cpus_with_different_flows_both_find_a_place_in_a_full_bucket() {
    explore(|| {
        let bucket = Bucket::new();
        for number in 1..=WAYS as u16 {
            bucket.insert(number, WhenFull::Evict).expect("there is room");
        }
        let other = Arc::clone(&bucket);
        let cpu = thread::spawn(move || other.insert(100, WhenFull::Evict));
        assert_eq!(bucket.insert(101, WhenFull::Evict), Ok(()));
        assert_eq!(cpu.join().expect("no panic"), Ok(()));
    });
}

#[test]
fn marks_that_two_cpus_set_at_once_are_both_kept_and_touches_lose_none() {
    explore(|| {
        let bucket = Bucket::new();
        bucket.insert(1, WhenFull::Refuse).expect("there is room");
        let cpus = [State::FIN_CLIENT, State::FIN_BACKEND].map(|mark| {
            let bucket = Arc::clone(&bucket);
            thread::spawn(move || {
                table::set_state(&*bucket, &tuple(1), State::NEW, State::NEW.with(mark));
            })
        });
        let later = Ticks(NOW.0 + 5);
        let mut seen = ConntrackEntry::empty();
        table::read_and_touch(&*bucket, &tuple(1), later, 7, &mut seen);
        for cpu in cpus {
            cpu.join().expect("no panic");
        }
        let found = bucket.read(1).expect("it is still there");
        assert!(found.state.is_over(), "{:?}", found.state);
    });
}
