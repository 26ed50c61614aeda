//! `moldau nodes`: list, drain.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use moldau_client::{Client, ClientError, Move, Moving, Node, Topic};
use serde_json::{Value, json};

use crate::args::{Format, Global, Nodes, NodesAction};
use crate::commands::connect;
use crate::drain::{self, Plan};
use crate::output;
use crate::progress::Progress;

/// Pause between two looks at what moves.
const PAUSE: Duration = Duration::from_millis(200);
/// A node is looked at so often whether something came to it while it was drained.
const ROUNDS: usize = 5;
/// Most partitions that an error names.
const NAMED: usize = 5;

/// Runs the command.
pub async fn run(global: &Global, arguments: Nodes) -> anyhow::Result<()> {
    let client = connect(global).await?;
    match arguments.action {
        NodesAction::List => list(global.output, &client).await,
        NodesAction::Drain { id, leaders_only, at_once, dry_run } => {
            let drain = Drain { client, id, leaders_only, at_once: usize::from(at_once) };
            if dry_run { drain.show(global.output).await } else { drain.run(global.output).await }
        }
    }
}

async fn list(format: Format, client: &Client) -> anyhow::Result<()> {
    let (nodes, topics) = (client.nodes().await?, client.topics().await?);
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let facts = |node: &Node| {
        let id = node.broker.id;
        let leads = partitions().filter(|partition| partition.leader == id).count();
        let held = partitions().filter(|partition| partition.replicas.contains(&id));
        let behind = held.clone().filter(|partition| !partition.in_sync.contains(&id)).count();
        (leads, held.count(), behind)
    };
    let row = |node: &Node| {
        let (leads, holds, behind) = facts(node);
        vec![
            node.broker.id.to_string(),
            node.broker.address(),
            node.broker.rack.clone().unwrap_or_else(|| "-".to_owned()),
            if node.fenced { "down" } else { "up" }.to_owned(),
            leads.to_string(),
            holds.to_string(),
            behind.to_string(),
        ]
    };
    let object = |node: &Node| {
        let (leads, holds, behind) = facts(node);
        json!({
            "node": node.broker.id, "address": node.broker.address(), "zone": node.broker.rack, "up": !node.fenced,
            "leads": leads, "replicas": holds, "not_in_sync": behind,
        })
    };
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    let json: Vec<Value> = nodes.iter().map(object).collect();
    let headings = ["node", "address", "zone", "state", "leads", "replicas", "not in sync"];
    output::show(format, &headings, &rows, &json!(json))
}

/// A node that is being emptied.
struct Drain {
    client: Client,
    id: i32,
    leaders_only: bool,
    at_once: usize,
}

impl Drain {
    /// What is to be done now.
    async fn plan(&self) -> anyhow::Result<Plan> {
        // The answer to this comes when the node that gives it knows all that the controller did: what is asked then is no older.
        let moving = self.moving().await?;
        let (nodes, topics) = (self.client.nodes().await?, self.client.topics().await?);
        if !nodes.iter().any(|node| node.broker.id == self.id) {
            let ids: Vec<String> = nodes.iter().map(|node| node.broker.id.to_string()).collect();
            bail!("there is no node {}; the nodes are {}", self.id, ids.join(", "));
        }
        let plan = match self.leaders_only {
            true => drain::leaders(&topics, &moving, self.id),
            false => drain::replicas(&nodes, &topics, &moving, self.id),
        };
        self.check(&plan, &topics)?;
        Ok(plan)
    }

    fn check(&self, plan: &Plan, topics: &[Topic]) -> anyhow::Result<()> {
        if plan.stuck.is_empty() {
            return Ok(());
        }
        let some: Vec<String> =
            plan.stuck.iter().take(NAMED).map(|(topic, index)| format!("{topic}-{index}")).collect();
        let more = plan.stuck.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (names, id) = (some.join(", "), self.id);
        if self.leaders_only {
            bail!("no other replica of {names}{more} is in sync: node {id} is the only one that can lead");
        }
        let of = |(name, index): &(String, i32)| {
            let topic = topics.iter().find(|topic| topic.name == *name)?;
            topic.partitions.iter().find(|partition| partition.index == *index)
        };
        let most = plan.stuck.iter().filter_map(of).map(|partition| partition.replicas.len()).max();
        bail!(
            "no other node that is up can take the replicas of {names}{more}, which have up to {} of them: start another node, \
             give these topics fewer replicas, or use --leaders-only to move leadership alone",
            most.unwrap_or(0)
        );
    }

    /// Prints the plan.
    async fn show(&self, format: Format) -> anyhow::Result<()> {
        let plan = self.plan().await?;
        let ids = |wish: &Move| wish.replicas.clone().unwrap_or_default();
        let shown = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let row = |wish: &Move| vec![wish.topic.clone(), wish.partition.to_string(), shown(&ids(wish))];
        let object =
            |wish: &Move| json!({ "topic": wish.topic, "partition": wish.partition, "replicas": ids(wish) });
        let rows: Vec<Vec<String>> = plan.moves.iter().map(row).collect();
        let moves: Vec<Value> = plan.moves.iter().map(object).collect();
        let json = json!({ "node": self.id, "moves": moves, "under_way": plan.leaving.len() });
        output::show(format, &["topic", "partition", "replicas"], &rows, &json)
    }

    /// Moves everything, and waits for it.
    async fn run(&self, format: Format) -> anyhow::Result<()> {
        let (mut moved, mut elected) = (BTreeSet::new(), 0);
        for round in 0.. {
            let plan = self.plan().await?;
            if plan.moves.is_empty() && plan.leaving.is_empty() && plan.elect.is_empty() {
                break;
            }
            if round == ROUNDS {
                bail!("partitions come to node {} as fast as they go; see who creates topics", self.id);
            }
            self.carry_out(&plan, &mut moved).await?;
            elected += plan.elect.len();
        }
        let (id, count) = (self.id, moved.len());
        let json = json!({ "node": id, "moved": count, "elected": elected, "drained": true });
        let sentence = match self.leaders_only {
            true => format!("node {id} leads nothing: {elected} partitions were given to others"),
            false => format!("node {id} holds nothing: {count} partitions were moved to others"),
        };
        output::done(format, &sentence, &json)
    }

    async fn carry_out(&self, plan: &Plan, moved: &mut BTreeSet<(String, i32)>) -> anyhow::Result<()> {
        let total = plan.moves.len() + plan.leaving.len();
        let mut progress = Progress::of_partitions(total as u64);
        let mut waiting = plan.moves.iter();
        let mut under_way: BTreeSet<(String, i32)> = plan.leaving.iter().cloned().collect();
        let mut done = 0;
        loop {
            let room = self.at_once.saturating_sub(under_way.len());
            let next: Vec<Move> = waiting.by_ref().take(room).cloned().collect();
            if !next.is_empty() {
                self.client.reassign(&next).await.context("what has begun goes on: run this again later")?;
                under_way.extend(next.into_iter().map(|wish| (wish.topic, wish.partition)));
            }
            let moving = self.moving().await?;
            let moves = |at: &(String, i32)| moving.iter().any(|m| m.topic == at.0 && m.partition == at.1);
            let (still, ended): (BTreeSet<_>, BTreeSet<_>) = under_way.into_iter().partition(moves);
            under_way = still;
            done += ended.len();
            moved.extend(ended);
            progress.set(done as u64);
            if done == total {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if !plan.elect.is_empty() {
            self.client.elect_preferred(&plan.elect).await?;
        }
        Ok(())
    }

    /// What moves, asked for again while a broker or controller is away.
    async fn moving(&self) -> Result<Vec<Moving>, ClientError> {
        let tries = self.client.tries();
        loop {
            match self.client.reassignments().await {
                Ok(moving) => return Ok(moving),
                Err(error) => tries.again(error).await?,
            }
        }
    }
}
