//! Makes the plan of a failure smaller, as long as the same invariant does not hold.

use std::time::{Duration, Instant};

use crate::plan::{Options, Plan, Side};
use crate::sink::{self, SinkPlan};
use crate::source::{self, SourcePlan};
use crate::Outcome;

/// Longest time to spend on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The smallest plan that was found.
pub fn shrink(plan: Plan, invariant: &str, run: &dyn Fn(&Plan) -> Outcome) -> Plan {
    let until = Instant::now() + PATIENCE;
    let mut best = plan;
    'smaller: loop {
        for candidate in candidates(&best) {
            if Instant::now() > until {
                return best;
            }
            if run(&candidate).invariant() == Some(invariant) {
                best = candidate;
                continue 'smaller;
            }
        }
        return best;
    }
}

/// Lists with a part left out, the largest parts first.
fn without<T: Clone>(list: &[T]) -> Vec<Vec<T>> {
    let mut out = Vec::new();
    let mut size = list.len();
    while size > 0 {
        for from in (0..list.len()).step_by(size) {
            let mut shorter = list.to_vec();
            shorter.drain(from..(from + size).min(list.len()));
            out.push(shorter);
        }
        size /= 2;
    }
    out
}

fn options_without(options: &Options) -> Vec<Options> {
    let names: Vec<_> = options.keys().cloned().collect();
    names
        .iter()
        .map(|name| {
            let mut fewer = options.clone();
            fewer.remove(name);
            fewer
        })
        .collect()
}

/// Changes of any plan's options, faults and steps.
macro_rules! candidates_of {
    ($plan:expr, $variant:path, $inner:expr, $texts:pat => $text:expr, $more:expr) => {{
        let mut all = Vec::new();
        let mut add = |change: &dyn Fn(&mut _)| {
            let mut smaller = $inner.clone();
            change(&mut smaller);
            if smaller != *$inner {
                all.push(Plan {
                    side: $variant(smaller),
                    ..$plan.clone()
                });
            }
        };
        for steps in without(&$inner.steps) {
            add(&|p| p.steps.clone_from(&steps));
        }
        for faults in without(&$inner.faults) {
            add(&|p| p.faults.clone_from(&faults));
        }
        for (at, step) in $inner.steps.iter().enumerate() {
            if let $texts = &step.act {
                let parts: Vec<_> = $text.split(' ').collect();
                for fewer in without(&parts).into_iter().filter(|parts| !parts.is_empty()) {
                    add(&|p| {
                        if let $texts = &mut p.steps[at].act {
                            *$text = fewer.join(" ");
                        }
                    });
                }
            }
        }
        for options in options_without(&$inner.options) {
            add(&|p| p.options.clone_from(&options));
        }
        add(&|p| p.partitions = 1);
        add(&|p| p.keys = 1);
        for at in 0..$inner.faults.len() {
            add(&|p| p.faults[at].per_mille = 1000);
            add(&|p| p.faults[at].partition = None);
        }
        $more(&mut add);
        all
    }};
}

type Change<'a, P> = &'a mut dyn FnMut(&dyn Fn(&mut P));

fn candidates(plan: &Plan) -> Vec<Plan> {
    match &plan.side {
        Side::Sink(sink) => {
            candidates_of!(plan, Side::Sink, sink, sink::Act::Submit(text) => text, |add: Change<'_, SinkPlan>| {
                add(&|s| s.spoil.clear());
                add(&|s| s.refused.clear());
                add(&|s| s.in_flight = 1);
            })
        }
        Side::Source(source) => {
            candidates_of!(plan, Side::Source, source, source::Act::Change(text) => text, |add: Change<'_, SourcePlan>| {
                add(&|s| s.padding = 0);
                add(&|s| s.before = 0);
                add(&|s| s.parallelism = 1);
                add(&|s| s.reports = false);
            })
        }
    }
}
