//! Blocks of producer ids.
//!
//! Ids of clusters that may one day meet (through a link or a federation) must not collide, so each cluster
//! draws from its member's own range: the member's number is in the bits above [`MEMBER_SHIFT`]. Member 0 has
//! the ids that Kafka would give.

use std::ops::Range;

use moldau_base::planted::{Bug, planted};
use moldau_base::{BrokerEpoch, NodeId};
use moldau_wire::ErrorCode;

use crate::brokers;
use crate::controller::Controller;
use crate::record::Record;
use crate::request::{Decision, ProducerIdBlock, Refusal, Reply};

/// Ids in a block, as in Kafka.
pub const BLOCK: i32 = 1000;
/// The member's number begins at this bit of a producer id.
pub const MEMBER_SHIFT: u32 = 48;
/// The highest member number.
pub const MAX_MEMBER: u16 = (1 << (63 - MEMBER_SHIFT)) - 1;

/// The producer ids of a member of a federation; numbers above [`MAX_MEMBER`] count as that.
pub fn of_member(member: u16) -> Range<i64> {
    let member = i64::from(member.min(MAX_MEMBER));
    member << MEMBER_SHIFT..(member << MEMBER_SHIFT) + ((1 << MEMBER_SHIFT) - 1)
}

pub(crate) fn allocate(c: &Controller, broker: NodeId, epoch: BrokerEpoch) -> Result<Decision, Refusal> {
    brokers::check_epoch(&c.image, broker, epoch)?;
    let range = &c.settings.producer_ids;
    let known = c.image.next_producer_id().filter(|_| !planted(Bug::ProducerIdsAgain));
    let first = known.unwrap_or(range.start).max(range.start);
    let next = first.checked_add(i64::from(BLOCK)).filter(|next| *next <= range.end);
    let Some(next) = next else {
        return Err(Refusal::new(
            ErrorCode::UNKNOWN_SERVER_ERROR,
            "Exhausted all producerIds: the next block would exceed this cluster's range",
        ));
    };
    Ok(Decision {
        records: vec![Record::ProducerIds { broker, epoch, next }],
        reply: Reply::ProducerIds(ProducerIdBlock { first, len: BLOCK }),
    })
}
