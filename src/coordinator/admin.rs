//! DescribeGroups, ListGroups, DeleteGroups.

use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::describe_groups_response::DescribedGroup;
use crate::protocol::messages::group_metadata_key::GroupMetadataKey;
use crate::protocol::messages::list_groups_response::ListedGroup;
use crate::protocol::{ErrorCode, Str};

use super::group::{ClassicState, Group};
use super::records::GroupRecord;
use super::state::State;
use super::step::Step;

/// From this version on a group that is not there is an error.
const NOT_FOUND_FROM: i16 = 6;

impl State {
    pub(super) fn describe_group(&self, version: i16, group_id: &Str) -> DescribedGroup {
        let why = match self.groups.get(group_id) {
            Some(Group::Classic(group)) => return group.describe(),
            Some(_) => format!("{group_id} is a group of another kind"),
            None => format!("there is no group {group_id}"),
        };
        let is_error = version >= NOT_FOUND_FROM;
        DescribedGroup {
            error_code: if is_error { ErrorCode::GroupIdNotFound.code() } else { 0 },
            error_message: is_error.then(|| Str::from(why)),
            group_id: group_id.clone(),
            group_state: Str::from_static(ClassicState::Dead.name()),
            ..DescribedGroup::default()
        }
    }

    pub(super) fn list_groups(&self, states: &[Str], types: &[Str]) -> Vec<ListedGroup> {
        let allows = |filter: &[Str], name: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let listed = self.groups.iter().filter(|(_, group)| {
            allows(states, group.state_name()) && allows(types, group.group_type().name())
        });
        listed
            .map(|(group_id, group)| ListedGroup {
                group_id: group_id.clone(),
                protocol_type: group.protocol_type(),
                group_state: Str::from_static(group.state_name()),
                group_type: Str::from_static(group.group_type().name()),
                ..ListedGroup::default()
            })
            .collect()
    }

    pub(super) fn delete_group(&mut self, step: &mut Step<'_>, group_id: &Str) -> DeletableGroupResult {
        let code = match self.groups.get(group_id) {
            None => ErrorCode::GroupIdNotFound,
            Some(Group::Classic(group)) if group.state == ClassicState::Empty => ErrorCode::None,
            Some(Group::Consumer(group)) if group.is_empty() => ErrorCode::None,
            // Who speaks the group's protocol may delete it; here nobody does.
            Some(Group::Classic(_) | Group::Consumer(_) | Group::Foreign(_)) => ErrorCode::NonEmptyGroup,
        };
        if code.is_ok() {
            for tombstone in self.offsets.tombstones(group_id, |_, _, _| true) {
                self.write(step, tombstone);
            }
            self.forget_group(step, group_id);
        }
        DeletableGroupResult {
            group_id: group_id.clone(),
            error_code: code.code(),
            ..DeletableGroupResult::default()
        }
    }

    /// Writes the group's own tombstones. It has no members; ids that were given out are worth nothing.
    pub(super) fn forget_group(&mut self, step: &mut Step<'_>, group_id: &Str) {
        let tombstones = match self.groups.get_mut(group_id) {
            Some(Group::Classic(group)) => {
                for member_id in group.pending_members.clone() {
                    group.remove(step, &member_id);
                }
                vec![GroupRecord::GroupMetadata(GroupMetadataKey { group: group_id.detached() }, None)]
            }
            Some(Group::Consumer(group)) => group.tombstones(),
            Some(Group::Foreign(_)) | None => Vec::new(),
        };
        for tombstone in tombstones {
            self.write(step, tombstone);
        }
    }
}
