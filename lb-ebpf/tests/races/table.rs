//! The conntrack tables under many interleavings of two or three CPUs, at each read and write of a word.

use std::sync::Arc;

use lb_common::address::{Port, Protocol, Tuple, V4};
use lb_common::backend::BackendId;
use lb_common::conntrack::table::{self, NotInserted, Stamp, WAYS, WhenFull};
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use shuttle::thread;

use crate::words::Words;
use crate::{SWITCHES, TRIES};

const NOW: Ticks = Ticks(1_000);

/// A table of one bucket, so that all tuples meet.
struct Bucket(Words);

impl Bucket {
    fn new() -> Arc<Self> {
        Self::of_buckets(1)
    }

    fn of_buckets(count: u32) -> Arc<Self> {
        Arc::new(Self(Words::new::<V4>(count)))
    }

    fn insert(&self, number: u16, when_full: WhenFull) -> Result<(), NotInserted> {
        table::insert(&self.0, &tuple(number), &entry(number), Stamp::of_ticks(NOW), when_full)
    }

    fn read(&self, number: u16) -> Option<ConntrackEntry<V4>> {
        let mut entry = ConntrackEntry::empty();
        table::read(&self.0, &tuple(number), NOW, &mut entry).then_some(entry)
    }

    /// How often the tuple's entry is in the table.
    fn count(&self, number: u16) -> usize {
        let entries = self.0.entries::<V4>(NOW);
        entries.iter().filter(|(found, _)| *found == tuple(number)).count()
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
                        table::remove(&bucket.0, &tuple(1));
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

/// Their claims may be in different buckets.
#[test]
fn of_two_cpus_that_insert_different_entries_of_one_tuple_one_succeeds() {
    for port in 1..=8 {
        let race = move || {
            let table = Bucket::of_buckets(2);
            let other = Arc::clone(&table);
            let insert = move |table: &Bucket, by: u16| {
                let stamp = Stamp::of_ticks(NOW);
                table::insert(&table.0, &tuple(port), &entry(by), stamp, WhenFull::Evict)
            };
            let cpu = thread::spawn(move || insert(&other, 100));
            let results = [insert(&table, 101), cpu.join().expect("no panic")];
            let succeeded = results.iter().filter(|result| result.is_ok()).count();
            assert_eq!((succeeded, table.count(port)), (1, 1), "{results:?}");
        };
        shuttle::check_random(race, TRIES);
        shuttle::check_pct(race, TRIES, SWITCHES);
    }
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
            table::remove(&other.0, &tuple(3));
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
                table::set_state(&bucket.0, &tuple(1), State::NEW, State::NEW.with(mark));
            })
        });
        let later = Ticks(NOW.0 + 5);
        let mut seen = ConntrackEntry::empty();
        table::read_and_touch(&bucket.0, &tuple(1), later, 7, &mut seen);
        for cpu in cpus {
            cpu.join().expect("no panic");
        }
        let found = bucket.read(1).expect("it is still there");
        assert!(found.state.is_over(), "{:?}", found.state);
    });
}
