//! ListGroups, DescribeGroups and DeleteGroups.

use bytestring::ByteString;
use moldau_base::Now;
use moldau_wire::ErrorCode;

use crate::context::Then;
use crate::coordinator::{Coordinator, Effect};
use crate::group::{Group, Member, State};
use crate::records::Entry;
use crate::request::{
    DeleteGroups, DeletedGroup, DescribeGroups, DescribedGroup, DescribedMember, ListGroups, ListGroupsReply,
    ListedGroup, Reply,
};

/// What Kafka calls a group of this protocol.
const CLASSIC: &str = "classic";
/// What Kafka calls a group that is not there.
const DEAD: &str = "Dead";

impl Coordinator {
    /// The groups that pass the filters.
    pub(crate) fn list(&self, list: &ListGroups) -> ListGroupsReply {
        let passes = |filter: &[ByteString], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
        };
        let groups = self
            .groups
            .values()
            .filter(|group| passes(&list.states, group.state.name()) && passes(&list.types, CLASSIC));
        let listed = groups.map(|group| ListedGroup {
            group: group.id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state.name(),
            group_type: CLASSIC,
        });
        ListGroupsReply { error: ErrorCode::NONE, groups: listed.collect() }
    }

    /// Members and assignments of groups.
    pub(crate) fn describe(&self, describe: &DescribeGroups) -> Vec<DescribedGroup> {
        let describe_one = |id: &ByteString| match self.groups.get(id) {
            Some(group) => described(group),
            None => not_found(id, describe.knows_group_id_not_found),
        };
        describe.groups.iter().map(describe_one).collect()
    }

    /// Takes a DeleteGroups; it is answered once the tombstones are committed to the log.
    pub(crate) fn delete_groups(
        &mut self,
        now: Now,
        token: u64,
        delete: &DeleteGroups,
        out: &mut Vec<Effect>,
    ) {
        let mut entries = Vec::new();
        let mut results = Vec::with_capacity(delete.groups.len());
        let mut seen = std::collections::BTreeSet::new();
        for id in delete.groups.iter().filter(|id| seen.insert(*id)) {
            let error = match self.groups.get(id).map(|group| group.state) {
                None => ErrorCode::GROUP_ID_NOT_FOUND,
                Some(State::Empty) => ErrorCode::NONE,
                Some(_) => ErrorCode::NON_EMPTY_GROUP,
            };
            if error.is_ok() {
                self.bury(id, &mut entries);
            }
            results.push(DeletedGroup { group: id.clone(), error });
        }
        let reply = Reply::DeleteGroups(results);
        let (_, mut cx) = self.split(now, out);
        if entries.is_empty() {
            cx.reply(token, reply);
        } else {
            cx.append(entries, Then::Reply { token, reply });
        }
        delete.groups.iter().for_each(|id| self.forget_if_idle(id));
    }

    /// The tombstones of a group and of all its offsets. The group stays until they are committed.
    fn bury(&mut self, id: &ByteString, entries: &mut Vec<Entry>) {
        for (topic, partition) in self.offsets.there_of_group(id) {
            let (group, topic) = (crate::records::own(id), topic.clone());
            entries.push(Entry::Offset { group, topic, partition, value: None });
        }
        self.bury_group(id, entries);
    }

    /// The tombstone of a group, if the log has a record of it. Another one if there is one that is not committed: that may be in doubt.
    pub(crate) fn bury_group(&mut self, id: &ByteString, entries: &mut Vec<Entry>) {
        if let Some(group) = self.groups.get_mut(id).filter(|group| group.recorded || group.burials > 0) {
            group.recorded = false;
            group.burials += 1;
            entries.push(Entry::Group { group: group.id.clone(), value: None });
        }
    }
}

fn described(group: &Group) -> DescribedGroup {
    let protocol = group.protocol.clone().filter(|_| group.state == State::Stable);
    let describe_member = |member: &Member| DescribedMember {
        member_id: member.id.clone(),
        group_instance_id: member.instance.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: protocol.as_ref().map(|name| member.metadata(Some(name))).unwrap_or_default(),
        assignment: member.assignment.clone(),
    };
    DescribedGroup {
        error: ErrorCode::NONE,
        error_message: None,
        group: group.id.clone(),
        state: group.state.name(),
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        members: group.members.values().map(describe_member).collect(),
        protocol: protocol.unwrap_or_default(),
    }
}

fn not_found(id: &ByteString, knows_group_id_not_found: bool) -> DescribedGroup {
    let mut described = DescribedGroup::refused(id.clone(), ErrorCode::NONE);
    described.state = DEAD;
    if knows_group_id_not_found {
        described.error = ErrorCode::GROUP_ID_NOT_FOUND;
        described.error_message = Some(ByteString::from(format!("Group {id} not found.")));
    }
    described
}
