//! Newtypes for the numbers of the protocol, so that an epoch is never passed where an id is meant.
//! Offsets stay plain `i64`: arithmetic on them is everywhere and their names say what they are.

use std::fmt;

use crate::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A node of this cluster (`node.id`), 0 or above.
    NodeId(i32)
);
number!(
    /// Counts the leaders of a partition; never goes back for a client (KIP-101).
    LeaderEpoch(i32)
);
number!(
    /// Counts the changes of a partition's metadata record, ISR included (KIP-497).
    PartitionEpoch(i32)
);
number!(
    /// Offset of the registration of a broker in the metadata log: one incarnation of it (KIP-631).
    BrokerEpoch(i64)
);
number!(
    /// A partition's number within its topic, 0 or above.
    PartitionIndex(i32)
);
number!(
    /// An idempotent producer; -1 on the wire means none (KIP-98).
    ProducerId(i64)
);

/// A partition by its topic's id: the key of everything that is kept per partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's id, stable across renames and links.
    pub topic: Uuid,
    /// The partition's number.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topic, self.partition)
    }
}
