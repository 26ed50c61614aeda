//! Records of `__consumer_offsets` in words, for people who read logs.

use std::fmt;

use crate::records::{Entry, GroupValue, OffsetValue, Record};

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Entry::decode(self.key.clone(), self.value.clone()) {
            Ok(Entry::Offset { group, topic, partition, value }) => {
                write!(f, "offset {group} {topic}-{partition}: ")?;
                match value {
                    Some(value) => write_offset(f, &value),
                    None => f.write_str("deleted"),
                }
            }
            Ok(Entry::Group { group, value }) => {
                write!(f, "group {group}: ")?;
                match value {
                    Some(value) => write_group(f, &value),
                    None => f.write_str("deleted"),
                }
            }
            Err(bad) => bad.fmt(f),
        }
    }
}

fn write_offset(f: &mut fmt::Formatter<'_>, value: &OffsetValue) -> fmt::Result {
    write!(f, "{}", value.offset)?;
    if value.leader_epoch >= 0 {
        write!(f, " epoch {}", value.leader_epoch)?;
    }
    if !value.metadata.is_empty() {
        write!(f, " {:?}", &*value.metadata)?;
    }
    if let Some(ms) = value.expire_ms {
        write!(f, " expires at {ms}")?;
    }
    Ok(())
}

fn write_group(f: &mut fmt::Formatter<'_>, value: &GroupValue) -> fmt::Result {
    write!(f, "generation {}", value.generation)?;
    if !value.protocol_type.is_empty() {
        write!(f, " {}", value.protocol_type)?;
    }
    if let Some(protocol) = &value.protocol {
        write!(f, " {protocol}")?;
    }
    if let Some(leader) = &value.leader {
        write!(f, " leader {leader}")?;
    }
    for member in &value.members {
        write!(f, ", {}", member.id)?;
        if let Some(instance) = &member.instance {
            write!(f, " (instance {instance})")?;
        }
        write!(f, " has {:?}", String::from_utf8_lossy(&member.assignment))?;
    }
    Ok(())
}
