//! The same seed is the same run, twice in one process and whatever the thread.

use moldau_sim::run::{Plan, run};
use moldau_sim::workload::ALL;

#[test]
fn the_same_seed_has_the_same_hash() {
    // `cargo xtask sim --twice` does it for all; here some are enough, without optimisation.
    for (seed, workload) in (1..).zip(ALL).skip(1).step_by(4) {
        let plan = Plan::whole(seed, workload);
        let once = run(&plan);
        let elsewhere = std::thread::scope(|scope| {
            let plan = plan.clone();
            scope.spawn(move || run(&plan)).join().expect("no panic")
        });
        assert_eq!(once.hash, elsewhere.hash, "{} is not reproducible", workload.name);
        assert_eq!(once.events, elsewhere.events);
    }
}
