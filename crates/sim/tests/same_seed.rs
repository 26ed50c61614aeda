//! The same seed is the same run, twice in one process and whatever the thread.

use moldau_sim::Text;
use moldau_sim::run::{Plan, run};
use moldau_sim::workload::ALL;

#[test]
fn the_same_seed_has_the_same_hash() {
    for (seed, workload) in (1..).zip(ALL) {
        let plan = Plan { seed, workload, text: Text::None, faults: None };
        let once = run(&plan);
        let elsewhere = std::thread::scope(|scope| {
            let plan = plan.clone();
            scope.spawn(move || run(&plan)).join().expect("no panic")
        });
        assert_eq!(once.hash, elsewhere.hash, "{} is not reproducible", workload.name);
        assert_eq!(once.events, elsewhere.events);
        let other = run(&Plan { seed: seed + 100, ..plan });
        assert_ne!(once.hash, other.hash);
    }
}
