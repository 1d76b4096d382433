//! Which keys are asked for together, and when. Decides and does nothing else: what happens and the time go in, requests come out.
//!
//! - A key that is asked for while it waits or is under way is not asked for again: its answer is for all.
//! - Keys wait for others up to a time, or until there are enough of them for a request. While all requests that are allowed are under
//!   way, they go on waiting, so that the next requests are the fuller.
//! - Keys of one physical partition go together, and so do those of which nobody knows where they are.
//! - Every number is answered exactly once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::bound::Bound;

/// What bounds requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most keys of one.
    pub keys: usize,
    /// About the most bytes that their keys may have.
    pub bytes: usize,
    /// How long a key waits for others.
    pub wait: Duration,
    /// How many may be under way.
    pub in_flight: usize,
}

/// A key, as far as it is of interest here.
pub trait Lookable {
    /// Equal for equal keys, and for no others.
    fn name(&self) -> &[u8];
    /// Where it lies in the key space, if that is known.
    fn place(&self) -> Option<&str>;
    /// About as many bytes as it has in a request.
    fn bytes(&self) -> usize;
}

/// Keys that are asked for together.
#[derive(Debug)]
pub struct Request<K> {
    /// Tells it from others of the handle.
    pub number: u64,
    /// At least one.
    pub keys: Vec<Arc<K>>,
    /// The bounds of the physical partition that they lie in; `None`: it is not known where they lie.
    pub range: Option<(String, String)>,
}

impl<K> Clone for Request<K> {
    fn clone(&self) -> Self {
        Request {
            number: self.number,
            keys: self.keys.clone(),
            range: self.range.clone(),
        }
    }
}

/// What happens to the keys of a handle.
#[derive(Debug)]
pub struct Machine<K> {
    limits: Limits,
    /// Who waits for each key that has not been answered.
    waiting: BTreeMap<Vec<u8>, Vec<u64>>,
    /// Keys that are in no request yet, in the order in which they came.
    pending: VecDeque<(Arc<K>, Instant)>,
    /// Requests that wait for others to end.
    ready: VecDeque<Request<K>>,
    under_way: BTreeMap<u64, Request<K>>,
    next: u64,
}

impl<K: Lookable> Machine<K> {
    /// Without keys.
    pub fn new(limits: Limits) -> Self {
        Machine {
            limits,
            waiting: BTreeMap::new(),
            pending: VecDeque::new(),
            ready: VecDeque::new(),
            under_way: BTreeMap::new(),
            next: 0,
        }
    }

    /// A key is asked for. Whether it is a new one.
    pub fn ask(&mut self, number: u64, key: K, now: Instant) -> bool {
        if let Some(waiting) = self.waiting.get_mut(key.name()) {
            waiting.push(number);
            return false;
        }
        self.waiting.insert(key.name().to_vec(), vec![number]);
        self.pending.push_back((Arc::new(key), now));
        true
    }

    /// When [`Machine::begin`] has something to begin; `None`: not before something else happens.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if self.under_way.len() >= self.limits.in_flight {
            return None;
        }
        // What is ready has waited long enough.
        if !self.ready.is_empty() {
            return Some(now);
        }
        let (_, came) = self.pending.front()?;
        let enough = self.pending.len() >= self.limits.keys;
        Some(if enough { now } else { *came + self.limits.wait })
    }

    /// Requests that are to be sent now. `ranges` are the bounds of the container's physical partitions, in order, as far as they are known.
    pub fn begin(&mut self, now: Instant, ranges: &[(String, String)]) -> Vec<Request<K>> {
        let mut out = Vec::new();
        while self.under_way.len() < self.limits.in_flight {
            if self.ready.is_empty() {
                self.cut(now, ranges);
            }
            let Some(request) = self.ready.pop_front() else {
                break;
            };
            self.under_way.insert(request.number, request.clone());
            out.push(request);
        }
        out
    }

    /// Makes requests of the keys that wait, if they have waited long enough or are enough.
    fn cut(&mut self, now: Instant, ranges: &[(String, String)]) {
        let Some((_, came)) = self.pending.front() else {
            return;
        };
        if *came + self.limits.wait > now && self.pending.len() < self.limits.keys {
            return;
        }
        // By the partition, in the order in which the first key of each came.
        let mut open: Vec<(Option<usize>, usize, Vec<Arc<K>>)> = Vec::new();
        for (key, _) in std::mem::take(&mut self.pending) {
            let place = key.place().map(|place| {
                let within =
                    |(min, max): &(String, String)| Bound(min) <= Bound(place) && Bound(place) < Bound(max);
                ranges.iter().position(within)
            });
            let (range, bytes) = (place.flatten(), key.bytes());
            let limits = self.limits;
            let fits =
                |keys: &Vec<Arc<K>>, held: usize| keys.len() < limits.keys && held + bytes <= limits.bytes;
            match open.iter_mut().rfind(|(of, _, _)| *of == range) {
                Some((_, held, keys)) if fits(keys, *held) => {
                    *held += bytes;
                    keys.push(key);
                }
                _ => open.push((range, bytes, vec![key])),
            }
        }
        for (range, _, keys) in open {
            let range = range.map(|n| ranges[n].clone());
            let request = self.request(keys, range);
            self.ready.push_back(request);
        }
    }

    fn request(&mut self, keys: Vec<Arc<K>>, range: Option<(String, String)>) -> Request<K> {
        self.next += 1;
        Request {
            number: self.next,
            keys,
            range,
        }
    }

    /// A request has ended: who asked for each of its keys, in their order. Nobody where the request is not under way any more.
    pub fn ended(&mut self, number: u64) -> Vec<Vec<u64>> {
        let Some(request) = self.under_way.remove(&number) else {
            return Vec::new();
        };
        let names = request.keys.iter().map(|key| key.name());
        names
            .map(|name| self.waiting.remove(name).unwrap_or_default())
            .collect()
    }

    /// The answer to a request is too large: its keys are asked for in two. False where it is for one key alone, or not under way.
    pub fn halve(&mut self, number: u64) -> bool {
        if self
            .under_way
            .get(&number)
            .is_none_or(|request| request.keys.len() < 2)
        {
            return false;
        }
        let Some(Request { mut keys, range, .. }) = self.under_way.remove(&number) else {
            return false;
        };
        let rest = keys.split_off(keys.len() / 2);
        for keys in [rest, keys] {
            let request = self.request(keys, range.clone());
            self.ready.push_front(request);
        }
        true
    }

    /// Nothing more is asked: all who wait, in the order of their numbers.
    pub fn end(&mut self) -> Vec<u64> {
        self.pending.clear();
        self.ready.clear();
        self.under_way.clear();
        let mut all: Vec<u64> = std::mem::take(&mut self.waiting)
            .into_values()
            .flatten()
            .collect();
        all.sort_unstable();
        all
    }

    /// Keys that have not been answered.
    pub fn open(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Named(Vec<u8>, Option<String>, usize);

    impl Lookable for Named {
        fn name(&self) -> &[u8] {
            &self.0
        }

        fn place(&self) -> Option<&str> {
            self.1.as_deref()
        }

        fn bytes(&self) -> usize {
            self.2
        }
    }

    fn named(name: &str, place: &str) -> Named {
        let place = Some(place.to_owned()).filter(|place| !place.is_empty());
        Named(name.as_bytes().to_vec(), place, 10)
    }

    const LIMITS: Limits = Limits {
        keys: 3,
        bytes: 1000,
        wait: Duration::from_millis(5),
        in_flight: 2,
    };

    fn ranges() -> Vec<(String, String)> {
        vec![
            (String::new(), "20".to_owned()),
            ("20".to_owned(), "FF".to_owned()),
        ]
    }

    fn names(requests: &[Request<Named>]) -> Vec<String> {
        let names = |request: &Request<Named>| {
            let names = request
                .keys
                .iter()
                .map(|key| String::from_utf8(key.0.clone()).unwrap());
            let range = request.range.as_ref().map_or("?", |(min, _)| min);
            format!("{range}:{}", names.collect::<Vec<_>>().join(""))
        };
        requests.iter().map(names).collect()
    }

    #[test]
    fn keys_wait_for_others_but_not_for_long() {
        let (mut machine, start) = (Machine::new(LIMITS), Instant::now());
        assert_eq!(machine.due(start), None);
        machine.ask(1, named("a", "10"), start);
        assert_eq!(machine.due(start), Some(start + LIMITS.wait));
        assert!(machine.begin(start, &ranges()).is_empty());
        machine.ask(2, named("b", "10"), start + Duration::from_millis(4));
        assert_eq!(names(&machine.begin(start + LIMITS.wait, &ranges())), [":ab"]);
        // Enough of them.
        for (number, name) in [(3, "c"), (4, "d"), (5, "e")] {
            machine.ask(number, named(name, "10"), start);
        }
        assert_eq!(machine.due(start), Some(start));
        assert_eq!(names(&machine.begin(start, &ranges())), [":cde"]);
    }

    #[test]
    fn keys_of_a_partition_go_together() {
        let (mut machine, start) = (Machine::new(LIMITS), Instant::now());
        for (number, name, place) in [
            (1, "a", "10"),
            (2, "b", "30"),
            (3, "c", ""),
            (4, "d", "1F"),
            (5, "e", ""),
        ] {
            machine.ask(number, named(name, place), start);
        }
        let first = machine.begin(start, &ranges());
        assert_eq!(names(&first), [":ad", "20:b"]);
        assert_eq!(machine.due(start), None, "all that may be are under way");
        assert_eq!(machine.ended(first[0].number), [[1], [4]]);
        assert_eq!(names(&machine.begin(start, &ranges())), ["?:ce"]);
    }

    #[test]
    fn where_partitions_are_not_known_they_are_not_named() {
        let (mut machine, start) = (Machine::new(LIMITS), Instant::now());
        machine.ask(1, named("a", "10"), start);
        machine.ask(2, named("b", ""), start);
        assert_eq!(names(&machine.begin(start + LIMITS.wait, &[])), ["?:ab"]);
    }

    #[test]
    fn a_key_is_asked_for_once_however_many_wait() {
        let (mut machine, start) = (Machine::new(LIMITS), Instant::now());
        assert!(machine.ask(1, named("a", "10"), start));
        assert!(!machine.ask(2, named("a", "10"), start));
        let request = machine.begin(start + LIMITS.wait, &ranges()).remove(0);
        assert!(!machine.ask(3, named("a", "10"), start), "it is under way");
        assert_eq!(machine.due(start), None);
        assert_eq!(machine.ended(request.number), [[1, 2, 3]]);
        assert!(machine.ended(request.number).is_empty(), "it ends once");
        assert!(machine.ask(4, named("a", "10"), start), "it was answered");
    }

    #[test]
    fn what_is_too_large_is_asked_for_in_two() {
        let (mut machine, start) = (Machine::new(LIMITS), Instant::now());
        for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
            machine.ask(number, named(name, "10"), start);
        }
        let request = machine.begin(start, &ranges()).remove(0);
        assert!(machine.halve(request.number));
        assert!(!machine.halve(request.number));
        let halves = machine.begin(start, &ranges());
        assert_eq!(names(&halves), [":a", ":bc"]);
        assert!(!machine.halve(halves[0].number), "one alone");
        assert_eq!(machine.ended(halves[1].number), [[2], [3]]);
    }

    #[test]
    fn the_end_is_told_to_all() {
        let (mut machine, start) = (Machine::new(LIMITS), Instant::now());
        machine.ask(2, named("a", "10"), start);
        let request = machine.begin(start + LIMITS.wait, &ranges()).remove(0);
        machine.ask(1, named("b", "10"), start);
        machine.ask(3, named("a", "10"), start);
        assert_eq!(machine.end(), [1, 2, 3]);
        assert!(machine.ended(request.number).is_empty());
        assert_eq!((machine.open(), machine.due(start)), (0, None));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Ask(u8),
        Pass(u64),
        End(usize),
        Halve(usize),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => (0u8..20).prop_map(Event::Ask),
            2 => (0u64..10).prop_map(Event::Pass),
            3 => (0usize..4).prop_map(Event::End),
            1 => (0usize..4).prop_map(Event::Halve),
        ];
        proptest::collection::vec(event, 0..200)
    }

    proptest! {
        #[test]
        fn every_number_is_answered_once(
            events in events(), keys in 1usize..6, in_flight in 1usize..4, bytes in 1usize..100, wait in 0u64..8
        ) {
            let limits = Limits { keys, bytes, in_flight, wait: Duration::from_millis(wait) };
            let (mut machine, mut now) = (Machine::new(limits), Instant::now());
            let mut under_way: Vec<Request<Named>> = Vec::new();
            // Who asked for what and was not answered.
            let mut open: BTreeMap<Vec<u8>, BTreeSet<u64>> = BTreeMap::new();
            let mut number = 0;
            let mut events: VecDeque<Event> = events.into();
            loop {
                let event = events.pop_front();
                match &event {
                    Some(Event::Ask(key)) => {
                        number += 1;
                        let place = ["", "05", "15", "25", "35"][usize::from(key % 5)];
                        let key = named(&format!("k{key}"), place);
                        open.entry(key.0.clone()).or_default().insert(number);
                        machine.ask(number, key, now);
                    }
                    Some(Event::Pass(millis)) => now += Duration::from_millis(*millis),
                    Some(Event::Halve(n)) if !under_way.is_empty() => {
                        let n = n % under_way.len();
                        let request = under_way[n].clone();
                        prop_assert_eq!(machine.halve(request.number), request.keys.len() > 1);
                        if request.keys.len() > 1 {
                            under_way.remove(n);
                        }
                    }
                    Some(Event::End(n)) if !under_way.is_empty() => {
                        let request = under_way.remove(n % under_way.len());
                        let answered = machine.ended(request.number);
                        prop_assert_eq!(answered.len(), request.keys.len());
                        for (key, numbers) in request.keys.iter().zip(answered) {
                            let asked = open.remove(&key.0).unwrap();
                            prop_assert_eq!(numbers.len(), asked.len());
                            prop_assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>(), asked);
                        }
                    }
                    Some(_) => {}
                    None if open.is_empty() => break,
                    // Nothing more is asked; all that was must come out.
                    None => {
                        now += limits.wait;
                        events.push_back(Event::End(0));
                    }
                }
                let begun = machine.begin(now, &ranges());
                for request in &begun {
                    prop_assert!(!request.keys.is_empty() && request.keys.len() <= keys);
                    let held: usize = request.keys.iter().map(|key| key.2).sum();
                    prop_assert!(held <= bytes || request.keys.len() == 1);
                    for key in &request.keys {
                        let other = under_way.iter().flat_map(|r| &r.keys).any(|k| k.0 == key.0);
                        prop_assert!(!other, "asked for twice at once");
                        let within = |(min, max): &(String, String), place: &str| {
                            min.as_str() <= place && place < max.as_str()
                        };
                        match (&request.range, &key.1) {
                            (Some(range), Some(place)) => prop_assert!(within(range, place)),
                            (range, place) => prop_assert!(range.is_none() && place.is_none()),
                        }
                    }
                }
                under_way.extend(begun);
                prop_assert!(under_way.len() <= in_flight);
                prop_assert_eq!(machine.open(), open.len());
                if machine.due(now).is_some_and(|due| due <= now) {
                    prop_assert!(false, "due, and yet not begun");
                }
            }
        }
    }
}
