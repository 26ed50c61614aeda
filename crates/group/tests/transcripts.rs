//! Plays `tests/transcripts/*.txt`: what a group coordinator answers (`alice <- …`) to what happens to it, and what it
//! writes to `__consumer_offsets` (`log: …`). After every step it is compared with a coordinator that replays the log.
//!
//! | command | meaning |
//! |---|---|
//! | `alice: join GROUP [again] [member=M] [instance=I] [type=T] [protocols=P,Q] [topics=A,B] [session=10s] [rebalance=60s] [v=9]` | JoinGroup, without a member id unless `again` or `member=` is given |
//! | `alice: sync GROUP [assign=M:WORK;N:WORK] [type=] [protocol=]` | SyncGroup |
//! | `alice: heartbeat GROUP` | Heartbeat |
//! | `alice: leave GROUP [members=M,@I,M@I]` | LeaveGroup of oneself, or of the named members |
//! | `alice: commit GROUP [simple] t-0=5 [epoch=] [meta=] [retention=] [id=] [v=]` | OffsetCommit, `simple` without generation and member id |
//! | `alice: fetch GROUP[,GROUP] [t-0 …] [stable] [id=]` | OffsetFetch of all or some partitions |
//! | `alice: delete-offsets GROUP t-0 …` | OffsetDelete |
//! | `alice: list [states=] [types=]`, `describe GROUP … [v=]`, `delete GROUP …` | ListGroups, DescribeGroups, DeleteGroups |
//! | `alice: gone` | nobody waits for the answer to alice's last request |
//! | `wait 3s` | time passes |
//! | `log: hold`, `log: doubt ERROR`, `log: commit`, `log: fail ERROR` | appends are not committed; nor are they soon, which is told; are, the held ones too; are refused |
//! | `restart` | the coordinator loses its partition and replays the log |
//! | `topic-deleted T [id=]`, `config KEY=VALUE` | as they say |
//!
//! A client knows the member id and generation of its last JoinGroup answer; `member=`, `generation=` and `instance=` say
//! otherwise. `alice-1` stands for the first member id that began with `alice-`.

mod support;

use moldau_check::transcript::{Line, check_dir};
use support::script::Script;

#[test]
fn transcripts() {
    check_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts"), || {
        let mut script = Script::default();
        move |line: &Line| script.run(line.text()).join("\n")
    });
}
