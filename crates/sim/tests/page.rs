//! What docs/simulator.md shows a newcomer is true: each example names the file in which it stands, word for word. The workload
//! and the checker stand here, and are run.

use moldau_base::Mono;
use moldau_check::watch::Broken;
use moldau_check::{Checker, Client, Event, Moment, Partition, Read, Record, Watch};
use moldau_sim::clients::admin::{self, Wanted};
use moldau_sim::clients::{producer, reader};
use moldau_sim::planted::{SEEDS, bugs, expectation};
use moldau_sim::run::{Plan, run};
use moldau_sim::weather::Faults;
use moldau_sim::workload::Workload;

const TAIL: Workload = Workload {
    name: "tail",
    about: "one producer, one reader; connections are reset",
    faults: Faults { reset: true, ..Faults::NONE },
    synced: false,
    nodes: &[1],
    controllers: 0,
    trouble_ms: 10_000,
    settings: |_, overrides| overrides.set("log.retention.check.interval.ms", 1_000),
    start: |scene| {
        let scene = scene.clone();
        scene.clone().client(move |cx| async move {
            let configs = scene.topic_configs(&cx);
            let topic =
                admin::create(&cx, Wanted { name: "t".to_owned(), partitions: 1, configs, life: 1 }).await;
            scene.audit(&topic);
            let (plan, read) = (producer::Plan::idempotent(topic.clone()), topic);
            scene.client(|cx| producer::produce(cx, plan));
            scene.client(|cx| reader::watch(cx, read));
        });
    },
};

/// Within one answer offsets have no gap.
#[derive(Debug)]
struct Gap;

impl Checker for Gap {
    fn name(&self) -> &'static str {
        "Gap"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        let Event::Read(read) = &moment.event else { return Ok(()) };
        match read.records.windows(2).find(|pair| pair[1].0 != pair[0].0 + 1) {
            Some(pair) => {
                let what = format!("nothing between {} and {}", pair[0].0, pair[1].0);
                Err(Broken::partition(&read.partition, what))
            }
            None => Ok(()),
        }
    }
}

#[test]
fn the_workload_of_the_page_runs() {
    for seed in 1..=3 {
        let outcome = run(&Plan::whole(seed, &TAIL));
        assert_eq!(outcome.failure, None);
        assert!(outcome.counts.get("records read").is_some_and(|count| *count > 0), "{:?}", outcome.counts);
    }
}

#[test]
fn the_checker_of_the_page_finds_what_it_is_for() {
    let record = |number| Record { producer: Client(1), number };
    let read = |offsets: [i64; 2]| {
        Event::Read(Read {
            reader: Client(2),
            partition: Partition::new("t", 0),
            asked: Mono(0),
            from: 0,
            records: offsets.map(|offset| (offset, record(offset as u64))).to_vec(),
            next: offsets[1] + 1,
            high_watermark: 10,
            epoch: None,
        })
    };
    let mut watch = Watch::of(vec![Box::new(Gap)], 10);
    assert!(watch.observe(Mono(1), read([0, 1])).is_ok());
    assert!(watch.observe(Mono(2), read([2, 4])).is_err_and(|found| found.checker == "Gap"));
}

#[test]
fn the_table_of_planted_bugs_names_those_that_there_are() {
    let page = include_str!("../../../docs/simulator.md");
    let head = "| bug | what it does | workload | found by | seeds |\n|---|---|---|---|---|\n";
    let (_, table) = page.split_once(head).expect("the table");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), bugs().len());
    for (bug, row) in bugs().into_iter().zip(&rows) {
        let expected = expectation(bug);
        assert_eq!(row[1..4], [bug.name(), bug.about().trim_end_matches('.'), expected.workload]);
        assert!(expected.checkers.contains(&row[4]), "{row:?}");
        assert!(row[5].parse().is_ok_and(|seeds| (1..=SEEDS).contains(&seeds)), "{row:?}");
    }
}

/// Without indentation and line ends, so that an example may stand further to the left and break its lines elsewhere.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<&str>>().join(" ")
}

#[test]
fn what_the_page_shows_stands_in_the_file_that_it_names() {
    let page = include_str!("../../../docs/simulator.md");
    let files = [
        ("tests/page.rs", include_str!("page.rs")),
        ("src/weather.rs", include_str!("../src/weather.rs")),
        ("src/world/faults.rs", include_str!("../src/world/faults.rs")),
    ];
    let mut shown = 0;
    for block in page.split("```rust\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let mut pieces = block.split("// in ");
        assert_eq!(pieces.next(), Some(""), "an example begins with the name of its file: {block}");
        for piece in pieces {
            let (name, code) = piece.split_once('\n').unwrap_or((piece, ""));
            let (_, file) = files.iter().find(|(known, _)| name == *known).expect("a file that is compared");
            assert!(words(file).contains(&words(code)), "this is not in {name}:\n{code}");
            shown += 1;
        }
    }
    assert_eq!(shown, 6, "a workload, a checker, and a fault in four pieces");
}
