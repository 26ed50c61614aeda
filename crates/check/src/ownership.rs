//! The checker of who owns what in a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::history::{Event, Moment, Partition};
use crate::watch::{Broken, Checker};

/// In one generation of a group a partition has one owner.
#[derive(Debug, Default)]
pub struct TwoOwners {
    owners: BTreeMap<(Arc<str>, i32), BTreeMap<Partition, Arc<str>>>,
}

impl Checker for TwoOwners {
    fn name(&self) -> &'static str {
        "TwoOwners"
    }

    fn observe(&mut self, moment: &Moment) -> Result<(), Broken> {
        match &moment.event {
            Event::Owns { group, generation, member, partitions } => {
                let owners = self.owners.entry((group.clone(), *generation)).or_default();
                for partition in partitions {
                    let owner = owners.entry(partition.clone()).or_insert_with(|| member.clone());
                    if owner != member {
                        let what = format!(
                            "{partition} has two owners in {group} generation {generation}: {owner} and {member}"
                        );
                        return Err(Broken::group(group, what));
                    }
                }
            }
            Event::GroupMayBeLost { group } => self.owners.retain(|(of, _), _| of != group),
            _ => {}
        }
        Ok(())
    }
}
